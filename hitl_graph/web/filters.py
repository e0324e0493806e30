"""The filters of the list, as they stand in the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Self, get_args
from urllib.parse import parse_qsl, urlencode

from hitl_graph.ledger.waiting import Filters
from hitl_graph.model import Kind, Risk
from hitl_graph.visible import visible

__all__ = ["AGES", "KINDS", "MINE", "RISKS", "Wanted"]

MINE = "mine"
"""As an assignee: what whoever looks may decide now."""
_AUDIT = "audit"  # by kind a review, whatever was decided automatically
KINDS: dict[str, str] = dict(
    zip(get_args(Kind), ("Approvals", "Reviews of drafts", "Agents that are stuck", "Questions"), strict=True)
) | {_AUDIT: "Audits"}
RISKS: dict[str, str] = {risk: f"{risk.capitalize()} risk" for risk in reversed(get_args(Risk))}
AGES: dict[str, tuple[str, timedelta, bool]] = {  # words, how long, whether older than that
    "over-1h": ("Older than an hour", timedelta(hours=1), True),
    "over-1d": ("Older than a day", timedelta(days=1), True),
    "over-7d": ("Older than a week", timedelta(days=7), True),
    "under-1h": ("Of the last hour", timedelta(hours=1), False),
    "under-1d": ("Of the last day", timedelta(days=1), False),
}
_LONGEST = 500  # characters of one value


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to see; empty: all, the oldest first.

    Attributes:
        q: Words to search for.
        who: Assignee: a name or selector, or `mine`.
        age: One of `AGES`.
        sort: `newest`; empty: the oldest first.
        after: Id of the last request of the page before.
        before: Id of the first request of the page after.
    """

    q: str = ""
    kind: str = ""
    tool: str = ""
    who: str = ""
    risk: str = ""
    age: str = ""
    thread: str = ""
    sort: str = ""
    after: str = ""
    before: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        """From the parameters of an address; what is not known there is left out."""
        given = {field.name: _clean(parameters.get(field.name, "")) for field in fields(cls)}
        given["age"] = given["age"] if given["age"] in AGES else ""
        given["sort"] = given["sort"] if given["sort"] == "newest" else ""
        return cls(**given)

    @classmethod
    def of_query(cls, query: str) -> Self:
        """From the query of an address."""
        return cls.of(dict(parse_qsl(query.removeprefix("?"))))

    @property
    def query(self) -> str:
        """As the query of an address, without a question mark: without place, so that it is one for all pages."""
        return self._joined("after", "before")

    @property
    def address(self) -> str:
        """As the query of an address, with its place in the list."""
        return self._joined()

    @property
    def narrows(self) -> bool:
        """Whether it leaves anything out."""
        return replace(self, sort="", after="", before="") != Wanted()

    def at(self, *, after: str = "", before: str = "") -> str:
        """The query of another page of the same list."""
        return replace(self, after=after, before=before).address

    def filters(self, now: datetime) -> Filters:
        """As `Inbox.pending` takes them."""
        wanted = Filters(
            kind=self.kind if self.kind and self.kind != _AUDIT else None,
            tool=self.tool or None,
            risk=self.risk or None,
            route=_AUDIT if self.kind == _AUDIT else None,
            thread_id=self.thread or None,
            search=self.q or None,
            assignee=self.who if self.who and self.who != MINE else None,
        )
        if self.age:
            _, span, is_older = AGES[self.age]
            wanted["before" if is_older else "since"] = now - span
        return wanted

    def words(self) -> list[tuple[str, str, str]]:
        """Each filter: its parameter, what it says, and the query without it."""
        said = {
            "q": f"“{visible(self.q)}”",
            "kind": KINDS.get(self.kind, visible(self.kind)),
            "tool": visible(self.tool),
            "who": "For me" if self.who == MINE else f"For {visible(self.who)}",
            "risk": RISKS.get(self.risk, visible(self.risk)),
            "age": AGES[self.age][0] if self.age else "",
            "thread": f"Thread {visible(self.thread)}",
        }
        return [
            (name, text, replace(self, **{name: "", "after": "", "before": ""}).address)
            for name, text in said.items()
            if getattr(self, name)
        ]

    def _joined(self, *without: str) -> str:
        named = [(field.name, getattr(self, field.name)) for field in fields(self) if field.name not in without]
        return urlencode([(name, value) for name, value in named if value])


def _clean(value: str) -> str:
    return value.replace("\0", "").strip()[:_LONGEST]
