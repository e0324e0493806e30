"""What lets people in: login links, sessions and API tokens. Only the hash of each secret is kept.

A secret has 256 random bits, so its plain SHA-256 says nothing about it, and looking that up in the index compares
nothing byte by byte with what was sent. What is issued, used up and ended is in the log, without the secret; when a
session or token was last seen is not.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from hitl_graph.errors import CredentialError
from hitl_graph.ledger import audit
from hitl_graph.model import canonical, from_ms
from hitl_graph.reviewers import Directory, Reviewer, person, same
from hitl_graph.storage import Transaction

__all__ = [
    "IDLE",
    "LINK",
    "SCOPES",
    "SESSION",
    "TOKEN",
    "Credential",
    "Identity",
    "Kind",
    "Scope",
    "find",
    "is_due",
    "issue",
    "listed",
    "log_in",
    "log_out",
    "look_up",
    "open_session",
    "purge",
    "revoke",
    "revoke_all",
    "see",
]

Kind = Literal["link", "session", "token"]
Scope = Literal["read", "decide", "admin"]
"""What somebody may do through a door at all: look; answer and claim; manage what lets others in."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

LINK: Final = timedelta(minutes=15)
"""How long a login link can be used."""
SESSION: Final = timedelta(days=7)
"""After which a session ends, whatever is done in it."""
IDLE: Final = timedelta(hours=12)
"""After which a session ends in which nothing is done."""
TOKEN: Final = "hitl_"
"""How an API token begins, so that whatever scans for lost secrets finds it."""

_KEPT, _SEEN_EVERY = timedelta(days=30), timedelta(minutes=1)
_SECRET = re.compile(rf"(?:{TOKEN})?[A-Za-z0-9_-]{{43}}")
_COLUMNS = "id, kind, reviewer, identity, label, created_ms, expires_ms, used_ms, revoked_ms"
_STRINGS: TypeAdapter[frozenset[str]] = TypeAdapter(frozenset[str])
_SCOPES: TypeAdapter[frozenset[Scope]] = TypeAdapter(frozenset[Scope])


@dataclass(frozen=True)
class Identity:
    """Whom a credential lets in.

    Attributes:
        roles: As the authentication said; None: as the directory knows them each time.
        groups: As `roles`.
        scopes: What they may do at all; `decide` and `admin` include `read`.
        via: How they were authenticated, such as `link` or `oidc`.
    """

    name: str
    roles: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    scopes: frozenset[Scope] = field(default_factory=lambda: frozenset[Scope](("read", "decide")))
    via: str = "link"

    def reviewer(self, directory: Directory | None) -> Reviewer:
        """The person."""
        if self.roles is None and self.groups is None:
            return person(self.name, directory)
        return Reviewer(self.name, self.roles or (), self.groups or ())


@dataclass(frozen=True)
class Credential:
    """A link, session or token on record.

    Attributes:
        id: SHA-256 of the secret, in hex digits.
        used_at: A link: when it was used up. Else: when it was last seen, to the minute; None: never.
        status: `live`, `used` (a link), `revoked` or `expired`; an idle session is expired.
    """

    id: str
    kind: Kind
    identity: Identity
    label: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None
    status: Literal["live", "used", "revoked", "expired"]


def issue(
    tx: Transaction, now_ms: int, kind: Kind, identity: Identity, *, by: str, lifetime: timedelta | None,
    label: str = "",
) -> tuple[str, Credential]:  # fmt: skip
    """Let somebody in from now on; returns the secret, which is kept nowhere, and what is on record.

    Args:
        by: Who lets them in.
        lifetime: None: until it is revoked; only a token can be so.

    Raises:
        CredentialError: It would let in nobody, for no time, or to nothing.
    """
    _check(kind, identity, lifetime)
    purge(tx, now_ms)
    secret = (TOKEN if kind == "token" else "") + secrets.token_urlsafe(32)
    own = _hashed(secret)
    wide = identity.scopes | {"read"} if identity.scopes else identity.scopes
    kept = {
        "roles": None if identity.roles is None else sorted(identity.roles),
        "groups": None if identity.groups is None else sorted(identity.groups),
        "scopes": [scope for scope in SCOPES if scope in wide],
        "via": identity.via,
    }
    expires_ms = None if lifetime is None else now_ms + lifetime // timedelta(milliseconds=1)
    tx.execute(
        "INSERT INTO hitl_credentials (id, kind, reviewer, identity, label, created_ms, expires_ms, used_ms)"
        " VALUES (?,?,?,?,?,?,?,?)",
        (
            own, kind, identity.name, canonical(kept), label, now_ms, expires_ms,
            now_ms if kind == "session" else None,
        ),
    )  # fmt: skip
    body = {"kind": kind, "reviewer": identity.name, **kept, "label": label, "expires_ms": expires_ms}
    audit.append(tx, now_ms, "credential.issued", own, body, thread_id=None, actor=by)
    return secret, _named(tx, now_ms, own, IDLE)


def look_up(tx: Transaction, now_ms: int, kind: Kind, secret: str, *, idle: timedelta = IDLE) -> Credential | None:
    """What a secret stands for, if it lets somebody in now."""
    if not _SECRET.fullmatch(secret):
        return None
    row = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_credentials WHERE id = ? AND kind = ?", (_hashed(secret), kind)
    ).fetchone()
    found = None if row is None else _credential(row, now_ms, idle)
    return found if found is not None and found.status == "live" else None


def log_in(
    tx: Transaction, now_ms: int, secret: str, *, lifetime: timedelta = SESSION, instead_of: str | None = None
) -> tuple[str, Credential]:
    """Use up a login link; returns the secret of the session that it opens, and the session. Only one caller gets it.

    Args:
        lifetime: Of the session.
        instead_of: Secret of the session of this browser until now, which ends.

    Raises:
        CredentialError: There is no such link, or it is used, revoked or expired.
    """
    link = look_up(tx, now_ms, "link", secret)
    own = "" if link is None else link.id
    used = tx.execute(
        "UPDATE hitl_credentials SET used_ms = ? WHERE id = ? AND kind = 'link' AND used_ms IS NULL"
        " AND revoked_ms IS NULL AND expires_ms > ?",
        (now_ms, own, now_ms),
    )
    if link is None or used.rowcount != 1:
        raise CredentialError("this login link does not exist, was used or is too old; nobody was logged in")
    audit.append(tx, now_ms, "credential.used", own, {"kind": "link"}, thread_id=None, actor=link.identity.name)
    return open_session(tx, now_ms, link.identity, lifetime=lifetime, instead_of=instead_of)


def open_session(
    tx: Transaction, now_ms: int, identity: Identity, *, lifetime: timedelta = SESSION, instead_of: str | None = None
) -> tuple[str, Credential]:
    """Let somebody in who was authenticated; returns the secret of the session, and the session.

    Args:
        lifetime: Of the session.
        instead_of: Secret of the session of this browser until now, which ends.

    Raises:
        CredentialError: It is nobody who can be let in.
    """
    if instead_of is not None:
        log_out(tx, now_ms, instead_of)
    return issue(tx, now_ms, "session", identity, by=identity.name, lifetime=lifetime)


def log_out(tx: Transaction, now_ms: int, secret: str) -> None:
    """End the session with this secret, if there is one."""
    if (session := look_up(tx, now_ms, "session", secret)) is not None:
        revoke(tx, now_ms, session.id, by=session.identity.name, why="logged out")


def see(tx: Transaction, now_ms: int, credential: Credential) -> None:
    """Note that a session or token was seen, if that was not noted within the last minute."""
    tx.execute(
        "UPDATE hitl_credentials SET used_ms = ? WHERE id = ? AND kind <> 'link' AND revoked_ms IS NULL"
        " AND (used_ms IS NULL OR used_ms < ?)",
        (now_ms, credential.id, now_ms - _SEEN_EVERY // timedelta(milliseconds=1)),
    )


def is_due(credential: Credential, now: datetime) -> bool:
    """Whether `see` would note it."""
    return credential.used_at is None or now - credential.used_at > _SEEN_EVERY


def revoke(tx: Transaction, now_ms: int, credential_id: str, *, by: str, why: str = "") -> Credential:
    """End a credential now. Ending it again changes nothing.

    Args:
        credential_id: Or the beginning of it.

    Raises:
        CredentialError: No such one, or several begin so.
    """
    own = find(tx, now_ms, credential_id).id
    ended = tx.execute("UPDATE hitl_credentials SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (now_ms, own))
    if ended.rowcount == 1:
        audit.append(tx, now_ms, "credential.revoked", own, {"why": why}, thread_id=None, actor=by)
    return _named(tx, now_ms, own, IDLE)


def revoke_all(tx: Transaction, now_ms: int, reviewer: str, *, by: str, why: str = "") -> list[Credential]:
    """End all that lets somebody in, now; gives what was live."""
    live = [one for one in listed(tx, now_ms, kinds=get_args(Kind), reviewer=reviewer) if one.status == "live"]
    return [revoke(tx, now_ms, one.id, by=by, why=why) for one in live]


def find(tx: Transaction, now_ms: int, prefix: str) -> Credential:
    """The credential whose id begins so.

    Raises:
        CredentialError: None does, or several do.
    """
    clean = prefix.strip().lower()
    if not clean or not all(c in "0123456789abcdef" for c in clean):
        raise CredentialError(f"{prefix!r} is no id of a token or session (hex digits); `hitl token list` has them")
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_credentials WHERE id >= ? AND id < ? LIMIT 2", (clean, clean + "g")
    ).fetchall()
    if len(rows) != 1:
        why = "several begin so; give more digits" if rows else "there is no such token or session"
        raise CredentialError(f"{prefix}: {why}; `hitl token list` has them")
    return _credential(rows[0], now_ms, IDLE)


def listed(
    tx: Transaction, now_ms: int, *, kinds: Iterable[Kind] = ("session", "token"), reviewer: str | None = None,
    idle: timedelta = IDLE,
) -> list[Credential]:  # fmt: skip
    """What lets people in, the newest first, also what has ended and was not purged yet.

    Args:
        reviewer: Only of this person.
    """
    wanted = list(kinds)
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_credentials WHERE kind IN ({','.join('?' * len(wanted))})"
        " ORDER BY created_ms DESC, id",
        wanted,
    ).fetchall()
    found = [_credential(row, now_ms, idle) for row in rows if reviewer is None or same(row[2], reviewer)]
    return found


def purge(tx: Transaction, now_ms: int, *, kept: timedelta = _KEPT, limit: int = 50) -> int:
    """Delete what ended long ago; returns how many. What it was stays in the log."""
    before = now_ms - kept // timedelta(milliseconds=1)
    rows = tx.execute(
        "SELECT id, kind FROM hitl_credentials WHERE expires_ms < ? OR revoked_ms < ?"
        " OR (kind = 'link' AND used_ms < ?) LIMIT ?",
        (before, before, before, limit),
    ).fetchall()
    for own, kind in rows:
        tx.execute("DELETE FROM hitl_credentials WHERE id = ?", (own,))
        audit.append(tx, now_ms, "credential.purged", own, {"kind": kind}, thread_id=None, actor="hitl")
    return len(rows)


def _check(kind: Kind, identity: Identity, lifetime: timedelta | None) -> None:
    try:
        nobody = Reviewer(identity.name).is_anonymous
    except ValueError:
        nobody = True
    if nobody:
        raise CredentialError(f"{identity.name!r} is nobody who can be let in; give a name; nothing was issued")
    if not identity.scopes or not identity.scopes <= set(SCOPES):
        given = ", ".join(sorted(identity.scopes)) or "none"
        raise CredentialError(f"scopes are {', '.join(SCOPES)}; given: {given}; nothing was issued")
    if (lifetime is None and kind != "token") or (lifetime is not None and lifetime <= timedelta(0)):
        raise CredentialError(f"a {kind} has to last for some time; nothing was issued")


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _named(tx: Transaction, now_ms: int, own: str, idle: timedelta) -> Credential:
    row = tx.execute(f"SELECT {_COLUMNS} FROM hitl_credentials WHERE id = ?", (own,)).fetchone()
    return _credential(row, now_ms, idle)


def _credential(row: Sequence[Any], now_ms: int, idle: timedelta) -> Credential:
    own, kind, reviewer, identity, label, created_ms, expires_ms, used_ms, revoked_ms = row
    try:
        kept = json.loads(identity)
        roles, groups = (
            None if kept[key] is None else _STRINGS.validate_python(kept[key]) for key in ("roles", "groups")
        )
        whose = Identity(reviewer, roles, groups, _SCOPES.validate_python(kept["scopes"]), str(kept["via"]))
    except (ValueError, LookupError, TypeError, ValidationError):  # damaged: it lets nobody in
        whose, revoked_ms = Identity(reviewer, frozenset(), frozenset(), frozenset(), "?"), revoked_ms or created_ms
    idle_ms = idle // timedelta(milliseconds=1)
    status: Literal["live", "used", "revoked", "expired"] = "live"
    if revoked_ms is not None:
        status = "revoked"
    elif kind == "link" and used_ms is not None:
        status = "used"
    elif expires_ms is not None and expires_ms <= now_ms:
        status = "expired"
    elif kind == "session" and (used_ms or created_ms) + idle_ms <= now_ms:
        status = "expired"
    return Credential(
        own, kind, whose, label, from_ms(created_ms), _at(expires_ms), _at(used_ms), _at(revoked_ms), status
    )  # fmt: skip


def _at(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
