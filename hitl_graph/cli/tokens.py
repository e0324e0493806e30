"""`hitl token`, `hitl login-link`: let programs and people into the web inbox and its API."""

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

import typer

from hitl_graph.cli import views
from hitl_graph.cli.app import (
    USAGE,
    As,
    Command,
    Db,
    Failure,
    Json,
    Listing,
    app,
    emit,
    note,
    open_ledger,
    reviewer_name,
)
from hitl_graph.ledger import Ledger, credentials
from hitl_graph.ledger.credentials import LINK, SCOPES, Credential, Identity, Kind, Scope

__all__: list[str] = []

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_KINDS: tuple[Kind, ...] = ("token", "session", "link")
_Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="NAME", help="A role they have, whatever the directory says. May be given again."),
]
_Groups = Annotated[list[str] | None, typer.Option("--group", metavar="NAME", help="As --role, of a group.")]
_Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", metavar="|".join(SCOPES), help="What they may do at all. May be given again."),
]

group = typer.Typer(cls=Listing, help="API tokens and sessions: who is let into the web inbox and its API.")
app.add_typer(group, name="token")


@group.command("list", cls=Command)
def list_tokens(
    everything: Annotated[
        bool, typer.Option("--all", help="Also sessions and login links, and what has ended.")
    ] = False,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """The tokens that let programs in."""
    kinds = _KINDS if everything else _KINDS[:1]
    with open_ledger(db) as ledger:
        found = ledger.read(credentials.listed, ledger.now_ms(), kinds=kinds)
    found = [one for one in found if everything or one.status == "live"]
    if as_json:
        for one in found:
            emit(_plain(one))
        return
    if not found:
        note("No token lets anybody in." if not everything else "Nothing lets anybody in, or did lately.")
        return
    rows = [
        (
            one.id[:10], one.kind, views.visible(one.identity.name), ",".join(_scopes(one)),
            views.clock(one.created_at), views.clock(one.used_at) if one.used_at else "never", _end(one),
            views.visible(one.label),
        )
        for one in found
    ]  # fmt: skip
    out = views.console()
    titles = ("ID", "KIND", "AS", "MAY", "SINCE", "LAST SEEN", "UNTIL", "LABEL")
    views.show(out, [views.table(out, titles, rows, whole=(0, 1, 3, 4, 5, 6), main=7)])


@group.command("create", cls=Command)
def create_token(
    reviewer: As = None,
    scope: _Scopes = None,
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="What it is for.")] = "",
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="For how long it holds: 12h, 90d, 4w, or never.")
    ] = "90d",
    role: _Roles = None,
    group_name: _Groups = None,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Let a program in as somebody. Prints the token, once; only its hash is kept."""
    lifetime = None if expires.strip() == "never" else _span(expires)
    with open_ledger(db) as ledger:
        whom = _identity(ledger, reviewer, scope or ["read"], role, group_name)
        secret, made = ledger.write(
            credentials.issue, ledger.now_ms(), "token", whom, by=reviewer_name(None), lifetime=lifetime, label=label
        )
    if as_json:
        emit({**_plain(made), "token": secret})
        return
    print(secret)
    note(f"Lets a program in as {views.visible(whom.name)}, to {', '.join(_scopes(made))}, until {_end(made)}.")
    note(f"It is shown this once. `hitl token revoke {made.id[:10]}` ends it.")


@group.command("revoke", cls=Command)
def revoke_token(
    token_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Of a token or session, or the beginning of it.")
    ] = None,
    of: Annotated[
        str | None, typer.Option("--of", metavar="NAME", help="All that lets this person in, who has left, say.")
    ] = None,
    message: Annotated[str, typer.Option("-m", "--message", help="Why, for the record.")] = "",
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """End a token, session or login link at once, or all of a person."""
    if (token_id is None) == (of is None):
        raise Failure(USAGE, "give the id of a token or session, or --of NAME; nothing was revoked")
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        if of is None:
            ended = [ledger.write(credentials.revoke, ledger.now_ms(), str(token_id), by=who, why=message)]
        else:
            ended = ledger.write(credentials.revoke_all, ledger.now_ms(), of, by=who, why=message)
    for one in ended:
        print(f"Revoked as {views.visible(who)}: {one.kind} {one.id[:10]} of {views.visible(one.identity.name)}.")
    if not ended:
        note(f"Nothing lets {views.visible(str(of))} in.")


@app.command("login-link", cls=Command)
def make_link(
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Address of the running inbox.")],
    reviewer: As = None,
    scope: _Scopes = None,
    role: _Roles = None,
    group_name: _Groups = None,
    db: Db = "agent.db",
) -> None:
    """Print a link that logs somebody into a running inbox, once, within a few minutes."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise Failure(USAGE, f"--url takes the whole address, such as http://localhost:8400, not {url!r}")
    with open_ledger(db) as ledger:
        whom = _identity(ledger, reviewer, scope or ["read", "decide"], role, group_name)
        secret, _ = ledger.write(
            credentials.issue, ledger.now_ms(), "link", whom, by=reviewer_name(None), lifetime=LINK
        )  # fmt: skip
    print(f"{url.rstrip('/')}/login/{secret}")
    minutes = LINK // timedelta(minutes=1)
    note(f"Lets one browser in as {views.visible(whom.name)}, once, within {minutes} minutes.")


def _identity(
    ledger: Ledger, name: str | None, scopes: list[str], roles: list[str] | None, groups: list[str] | None
) -> Identity:
    wanted = frozenset[Scope](scope for scope in SCOPES if scope in scopes)
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise Failure(USAGE, f"--scope takes {', '.join(SCOPES)}, not {unknown[0]!r}; nothing was issued")
    who, is_fixed = reviewer_name(name), bool(roles or groups)
    if not is_fixed and ledger.directory is not None and ledger.directory(who) is None:
        note(f"The directory does not know {views.visible(who)}; is the name right?")
    fixed = (frozenset(roles or ()), frozenset(groups or ())) if is_fixed else (None, None)
    return Identity(who, fixed[0], fixed[1], wanted, via="command line")


def _span(text: str) -> timedelta:
    parts = re.fullmatch(r"(\d{1,5})([hdw])", text.strip())
    if parts is None or int(parts[1]) == 0:
        raise Failure(
            USAGE, f"--expires takes a time such as 12h, 90d or 4w, or never, not {text!r}; nothing was issued"
        )
    return int(parts[1]) * _UNITS[parts[2]]


def _scopes(one: Credential) -> list[str]:
    return [scope for scope in SCOPES if scope in one.identity.scopes]


def _end(one: Credential) -> str:
    if one.status != "live":
        return one.status
    return views.clock(one.expires_at) if one.expires_at else "it is revoked"


def _plain(one: Credential) -> dict[str, object]:
    at = {"created_at": one.created_at, "expires_at": one.expires_at, "used_at": one.used_at}
    return {
        "id": one.id, "kind": one.kind, "name": one.identity.name, "scopes": _scopes(one), "label": one.label,
        "status": one.status, "via": one.identity.via,
        "roles": None if one.identity.roles is None else sorted(one.identity.roles),
        "groups": None if one.identity.groups is None else sorted(one.identity.groups),
        **{name: time and time.isoformat().replace("+00:00", "Z") for name, time in at.items()},
    }  # fmt: skip
