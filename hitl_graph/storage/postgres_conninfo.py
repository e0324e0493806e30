"""Connection strings: what may be shown of one, and what we add to it."""

import re
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hitl_graph.errors import StorageError

__all__ = ["place_of", "public_url", "quote_name", "with_defaults"]

_SECRETS = {"password", "sslpassword", "oauth_client_secret"}
_DEFAULTS = {
    "fallback_application_name": "hitl-graph",
    "connect_timeout": "30",
    "keepalives_idle": "30",  # notice within two minutes that the other machine is gone
    "keepalives_interval": "10",
    "keepalives_count": "6",
}


def public_url(conninfo: str, schema: str | None) -> str:
    """A URL that leads to the same database and schema, without what must not be shown.

    Raises:
        StorageError: It is no connection string. It is not quoted, since it may have the password in it.
    """
    parts = {name: value for name, value in _parse(conninfo).items() if name not in _SECRETS}
    if schema is not None:
        path = "search_path=" + quote_name(schema)
        escaped = re.sub(r"([\\\s])", r"\\\1", path)
        parts["options"] = f"{parts.get('options', '')} -c {escaped}".strip()
    user, name = quote(parts.pop("user", ""), safe=""), quote(parts.pop("dbname", ""), safe="")
    place = ""
    if re.fullmatch(r"[\w.-]+", parts.get("host", "")) and "," not in parts.get("port", ""):
        place = parts.pop("host")
        place += f":{parts.pop('port')}" if "port" in parts else ""
    rest = urlencode(parts, quote_via=quote)
    return f"postgresql://{user}{'@' if user else ''}{place}/{name}{'?' if rest else ''}{rest}"


def quote_name(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def place_of(conninfo: str) -> str:
    """How messages name the database."""
    parts = _parse(conninfo)
    name = parts.get("dbname") or parts.get("service") or parts.get("user") or ""
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"PostgreSQL database {name!r} at {host}{port}"


def with_defaults(conninfo: str) -> str:
    """The connection string with our defaults for what it leaves open."""
    return make_conninfo(**{**_DEFAULTS, **_parse(conninfo), "client_encoding": "UTF8"})


def _parse(conninfo: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError:
        raise StorageError(
            "this is no PostgreSQL connection string; write postgresql://user:password@host:5432/database or"
            " 'host=... port=... dbname=... user=...'"
        ) from None
