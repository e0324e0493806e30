"""Filters that somebody has given a name: their own, few, replaced by name."""

import pytest

from hitl_graph.ledger import Ledger, views
from tests.databases import open_ledger

pytestmark = pytest.mark.both_databases


@pytest.fixture
def ledger(db_path: str) -> Ledger:
    return open_ledger(db_path)


def names(ledger: Ledger, owner: str) -> list[tuple[str, str]]:
    return [(view.name, view.query) for view in ledger.read(views.listed, owner)]


def test_a_view_of_the_same_name_is_replaced_in_its_place(ledger: Ledger) -> None:
    with ledger:
        for at, (name, query) in enumerate([("mail", "tool=mail"), ("pay", "tool=pay"), (" mail ", "q=a")]):
            ledger.write(views.save, at, "alice", name, query)
        assert names(ledger, "alice") == [("mail", "q=a"), ("pay", "tool=pay")]
        assert names(ledger, "bob") == []


def test_a_rename_takes_no_name_of_another_view(ledger: Ledger) -> None:
    with ledger:
        for name in ("mail", "pay"):
            ledger.write(views.save, 1, "alice", name, f"tool={name}")
        with pytest.raises(ValueError, match="another view"):
            ledger.write(views.rename, "alice", "mail", "pay")
        with pytest.raises(LookupError):
            ledger.write(views.rename, "bob", "mail", "post")
        ledger.write(views.rename, "alice", "mail", "post")
        assert names(ledger, "alice") == [("pay", "tool=pay"), ("post", "tool=mail")]
        assert not ledger.write(views.delete, "bob", "pay")
        assert ledger.write(views.delete, "alice", "pay")
        assert names(ledger, "alice") == [("post", "tool=mail")]


@pytest.mark.parametrize(("name", "query"), [("", "q=a"), (" \0 ", "q=a"), ("n" * 61, "q=a"), ("n", "q" * 1001)])
def test_what_cannot_be_kept_is_refused(ledger: Ledger, name: str, query: str) -> None:
    with ledger:
        with pytest.raises(ValueError, match=r"a view needs a name|too long"):
            ledger.write(views.save, 1, "alice", name, query)
        assert names(ledger, "alice") == []


def test_nobody_has_more_than_the_page_can_show(ledger: Ledger) -> None:
    with ledger:
        for number in range(views.MOST):
            ledger.write(views.save, number, "alice", f"view {number}", "q=a")
        with pytest.raises(ValueError, match="delete one first"):
            ledger.write(views.save, 99, "alice", "one more", "q=a")
        ledger.write(views.save, 99, "alice", "view 3", "q=b")
        assert len(names(ledger, "alice")) == views.MOST
