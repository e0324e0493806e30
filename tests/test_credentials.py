"""Login links, sessions and tokens: each opens what it is for, for whom it is for, as long as it may, and no more."""

from datetime import timedelta

import pytest

from hitl_graph.errors import CredentialError
from hitl_graph.ledger import Ledger, credentials
from hitl_graph.ledger.credentials import Identity, Scope
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.storage import Transaction
from hitl_graph.testing import FakeClock
from tests.databases import open_ledger
from tests.invariants.processes import Barrier, race

pytestmark = pytest.mark.both_databases

ALICE = Identity("alice", scopes=frozenset[Scope](("read", "decide")))
HOUR = timedelta(hours=1)
KINDS: tuple[credentials.Kind, ...] = ("link", "session", "token")


def _issue(ledger: Ledger, kind: credentials.Kind, who: Identity = ALICE, lifetime: timedelta | None = HOUR) -> str:
    return ledger.write(credentials.issue, ledger.now_ms(), kind, who, by="ops", lifetime=lifetime)[0]


def _live(ledger: Ledger, kind: credentials.Kind, secret: str) -> bool:
    return ledger.read(credentials.look_up, ledger.now_ms(), kind, secret) is not None


def _log_in(ledger: Ledger, secret: str, instead_of: str | None = None) -> str:
    return ledger.write(credentials.log_in, ledger.now_ms(), secret, instead_of=instead_of)[0]


def test_a_link_opens_one_session(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        link = _issue(ledger, "link")
        session = _log_in(ledger, link)
        assert _live(ledger, "session", session)
        for _ in range(2):
            with pytest.raises(CredentialError, match="does not exist, was used or is too old"):
                _log_in(ledger, link)
        [kept] = ledger.read(credentials.listed, ledger.now_ms(), kinds=["session"])
        assert (kept.identity, kept.status) == (ALICE, "live")
        assert ledger.verify_audit().problem is None


def _racing(index: int, barrier: Barrier, path: str, link: str) -> bool:
    with open_ledger(path) as ledger:
        barrier.wait(60)
        try:
            _log_in(ledger, link)
        except CredentialError:
            return False
        return True


def test_of_browsers_that_race_for_a_link_one_is_let_in(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        link = _issue(ledger, "link")
        assert race(6, _racing, db_path, link).count(True) == 1
        assert len(ledger.read(credentials.listed, ledger.now_ms(), kinds=["session"])) == 1
        assert ledger.verify_audit().problem is None


def test_no_secret_is_kept_or_opens_what_it_is_not_for(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        secrets = {kind: _issue(ledger, kind) for kind in KINDS}
        for kind, secret in secrets.items():
            for other in KINDS:
                assert _live(ledger, other, secret) == (kind == other)
            for forged in (
                secret[:-1],
                secret + "A",
                secret.swapcase(),
                secret.removeprefix("hitl_")[::-1],
                "",
                "hitl_",
            ):
                assert not _live(ledger, kind, forged)
        assert secrets["token"].startswith("hitl_")

        def everything(tx: Transaction) -> str:
            return repr(
                [tx.execute(f"SELECT * FROM {table}").fetchall() for table in ("hitl_credentials", "hitl_audit")]
            )

        kept = ledger.read(everything)
        assert not any(secret in kept or secret.removeprefix("hitl_") in kept for secret in secrets.values())
        ids = [one.id for one in ledger.read(credentials.listed, ledger.now_ms(), kinds=KINDS)]
        assert not any(_live(ledger, kind, own) for own in ids for kind in KINDS)


def test_what_lets_people_in_ends(db_path: str) -> None:
    clock = FakeClock()
    with open_ledger(db_path) as ledger:
        ledger.clock = clock
        link, token = _issue(ledger, "link", lifetime=credentials.LINK), _issue(ledger, "token", lifetime=None)
        session, other = _log_in(ledger, _issue(ledger, "link")), _issue(ledger, "session", lifetime=timedelta(days=7))
        clock.advance(timedelta(minutes=15))
        with pytest.raises(CredentialError):
            _log_in(ledger, link)
        for _ in range(20):  # who comes back within the idle time stays, a week at most
            clock.advance(timedelta(hours=8))
            found = ledger.read(credentials.look_up, ledger.now_ms(), "session", session)
            assert found is not None
            ledger.write(credentials.see, ledger.now_ms(), found)
            assert not _live(ledger, "session", other) or clock() < found.created_at + timedelta(hours=12)
        clock.advance(timedelta(hours=8))
        assert not _live(ledger, "session", session)
        assert _live(ledger, "token", token)
        assert ledger.verify_audit().problem is None  # being seen is in no log, and disturbs none


def test_logging_in_anew_ends_the_session_before(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        first = _log_in(ledger, _issue(ledger, "link"))
        second = _log_in(ledger, _issue(ledger, "link"), instead_of=first)
        assert (_live(ledger, "session", first), _live(ledger, "session", second)) == (False, True)


def test_what_was_revoked_opens_nothing(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        for kind in KINDS:
            secret = _issue(ledger, kind)
            found = ledger.read(credentials.look_up, ledger.now_ms(), kind, secret)
            assert found is not None
            for _ in range(2):
                assert ledger.write(credentials.revoke, ledger.now_ms(), found.id[:10], by="ops").status == "revoked"
            assert not _live(ledger, kind, secret)
        with pytest.raises(CredentialError, match="no such token"):
            ledger.write(credentials.revoke, ledger.now_ms(), "0" * 64, by="ops")
        with pytest.raises(CredentialError, match="hex digits"):
            ledger.write(credentials.revoke, ledger.now_ms(), "%", by="ops")
        log = ledger.read(lambda tx: tx.execute("SELECT event, actor FROM hitl_audit ORDER BY seq").fetchall())
        assert [tuple(row) for row in log] == [("credential.issued", "ops"), ("credential.revoked", "ops")] * 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE hitl_credentials SET revoked_ms = NULL",
        "UPDATE hitl_credentials SET expires_ms = 99999999999999",
        "UPDATE hitl_credentials SET reviewer = 'mallory'",
        "UPDATE hitl_credentials SET identity = replace(identity, 'read', 'admin')",
        "UPDATE hitl_credentials SET used_ms = NULL WHERE kind = 'link'",
        "DELETE FROM hitl_credentials",
        "INSERT INTO hitl_credentials (id, kind, reviewer, identity, created_ms) VALUES ('ab', 'token', 'm', '{}', 1)",
    ],
)
def test_the_log_tells_who_was_let_in_behind_its_back(db_path: str, change: str) -> None:
    with open_ledger(db_path) as ledger:
        session = _log_in(ledger, _issue(ledger, "link"))
        found = ledger.read(credentials.look_up, ledger.now_ms(), "session", session)
        assert found is not None
        ledger.write(credentials.revoke, ledger.now_ms(), found.id, by="ops")
        assert ledger.verify_audit().problem is None
        ledger.database.execute(change, ())
        assert "credential" in str(ledger.verify_audit().problem)


def test_a_damaged_row_lets_nobody_in(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        for damaged in ("{}", "no json", '{"roles":null,"groups":null,"scopes":["root"],"via":""}', "[]"):
            token = _issue(ledger, "token")
            ledger.database.execute("UPDATE hitl_credentials SET identity = ?", (damaged,))
            assert not _live(ledger, "token", token)


def test_nobody_and_nothing_cannot_be_let_in(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        for who in (Identity("anonymous"), Identity(" "), Identity("alice", scopes=frozenset())):
            with pytest.raises(CredentialError, match="nothing was issued"):
                _issue(ledger, "token", who)
        for kind, lifetime in (("link", None), ("session", None), ("token", timedelta(0))):
            with pytest.raises(CredentialError, match="nothing was issued"):
                _issue(ledger, kind, ALICE, lifetime)  # type: ignore[arg-type]


def test_roles_are_those_of_the_login_or_what_the_directory_says_now(db_path: str) -> None:
    directory = StaticDirectory([Reviewer("alice", ["finance"])])
    assert ALICE.reviewer(directory).roles == {"finance"}
    assert ALICE.reviewer(None).roles == frozenset()
    fixed = Identity("alice", roles=frozenset({"support"}), groups=frozenset())
    assert fixed.reviewer(directory).roles == {"support"}


def test_what_ended_long_ago_is_purged_on_the_record(db_path: str) -> None:
    clock = FakeClock()
    with open_ledger(db_path) as ledger:
        ledger.clock = clock
        _log_in(ledger, _issue(ledger, "link"))
        forever = _issue(ledger, "token", lifetime=None)
        clock.advance(timedelta(days=38))
        _issue(ledger, "link")  # whoever issues one cleans up
        left = ledger.read(credentials.listed, ledger.now_ms(), kinds=KINDS)
        assert sorted(one.kind for one in left) == ["link", "token"]
        assert _live(ledger, "token", forever)
        assert ledger.verify_audit().problem is None
