"""Replay a policy over what is on record: what it would have asked, allowed and denied. Reads; changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hitl_graph.ledger import Ledger, calls
from hitl_graph.policy import Policy
from hitl_graph.policy.replay import Change, Changes, Replay
from hitl_graph.reviewers import person
from hitl_graph.steps import Steps, arun, blocking, run

__all__ = ["Change", "Changes", "Replay", "areplay", "replay"]

_PAGE = 1000

Progress = Callable[[int, int], None]


def replay(
    ledger: Ledger,
    policy: Policy,
    *,
    since: datetime | timedelta | None = None,
    until: datetime | None = None,
    thread_id: str | None = None,
    tool: str = "*",
    drafts: str = "review",
    keep: int = 1000,
    progress: Progress | None = None,
) -> Replay:
    """What a policy would have made of the calls on record.

    Args:
        since: A time (aware), or how long ago; None: from the beginning.
        until: A time (aware); None: now.
        thread_id: Only of this thread.
        tool: Only calls of tools of this name, or glob.
        drafts: What the policy calls a draft, as `OutputReviewNode(name=)`. Drafts are left out unless a rule names it.
        keep: How many calls of each kind of change to keep, the newest; all are counted.
        progress: Told now and then how many rows were read, of how many.

    Raises:
        ValueError: A time is not aware.
    """
    return run(_steps(ledger, policy, since, until, thread_id, Replay(policy, tool=tool, drafts=drafts, keep=keep),
                      progress))  # fmt: skip


async def areplay(
    ledger: Ledger,
    policy: Policy,
    *,
    since: datetime | timedelta | None = None,
    until: datetime | None = None,
    thread_id: str | None = None,
    tool: str = "*",
    drafts: str = "review",
    keep: int = 1000,
    progress: Progress | None = None,
) -> Replay:
    """As `replay`."""
    return await arun(_steps(ledger, policy, since, until, thread_id,
                             Replay(policy, tool=tool, drafts=drafts, keep=keep), progress))  # fmt: skip


def _steps(
    ledger: Ledger,
    policy: Policy,
    since: datetime | timedelta | None,
    until: datetime | None,
    thread_id: str | None,
    result: Replay,
    progress: Progress | None,
) -> Steps[Replay]:
    now = until or ledger.clock()
    start = now - since if isinstance(since, timedelta) else since
    result.since, result.until = start, now
    span = calls.Span(0 if start is None else _ms(start), _ms(now), thread_id)
    names_people = any(rule.terms is not None for rule in policy.rules)
    total = (yield blocking(ledger.read, calls.count, span)) if progress else 0
    read = 0
    for source in calls.SOURCES:
        after: str | None = ""
        while after is not None:
            page: calls.Page = yield blocking(ledger.read, source, span, after, _PAGE, names_people)
            yield blocking(_meet, ledger, result, page)
            for one in page.calls:
                yield from result.steps(one)
            if page.several:
                result.skipped["questions about several calls at once"] += page.several
            after, read = page.after, read + page.rows
            if progress:
                progress(read, max(total, read))
    return result


def _meet(ledger: Ledger, result: Replay, page: calls.Page) -> None:
    for name in {voter for one in page.calls for voter in one.voters} - result.people.keys():
        result.people[name] = person(name, ledger.directory)


def _ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone; give an aware datetime")
    return int(at.astimezone(UTC).timestamp() * 1000)
