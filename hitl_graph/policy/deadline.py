"""By when people have to decide, and what happens on the way there and at the end. No I/O.

A duration counts from when the question is asked. With `hours`, only working time counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol, get_args

from hitl_graph.reviewers import check_selector
from hitl_graph.terms import Turn

__all__ = ["Deadline", "Earliest", "End", "EndOfDay", "Escalate", "WorkingTime", "earliest"]

End = Literal["reject", "escalate", "approve"]


class WorkingTime(Protocol):
    """Knows when people work; see `hitl_graph.policy.Hours`."""

    def after(self, start: datetime, worked: timedelta, /) -> datetime:
        """The instant by which so much working time has passed."""
        ...

    def end_of_day(self, start: datetime, days: int, /) -> datetime:
        """When people stop working, so many working days after that of `start`."""
        ...


@dataclass(frozen=True)
class EndOfDay:
    """The end of a working day.

    Args:
        days: 0: of the day on which it is asked, or, if nobody works any more on it, of the next one on which people
            do; 1: of the working day after that.
    """

    days: int = 0

    def __post_init__(self) -> None:
        if type(self.days) is not int or self.days < 0:
            raise ValueError(f"EndOfDay: {self.days!r} is no number of days")


@dataclass(frozen=True)
class Escalate:
    """After so long, these people may decide, too.

    Args:
        after: Counted from when the question is asked.
        to: Selectors, such as `role:lead`.
    """

    after: timedelta
    to: Sequence[str]

    def __post_init__(self) -> None:
        _check_positive("Escalate", self.after)
        object.__setattr__(self, "to", _selectors("Escalate", "to", self.to))


@dataclass(frozen=True)
class Deadline:
    """When waiting ends.

    Args:
        after: Counted from when the question is asked; or `EndOfDay(...)` of these `hours`.
        then: `reject`; `escalate`: `to` may decide, too, and it waits on; `approve`, unless nobody came to do so for a
            tenth of the waiting time (at least a minute, at most an hour): a machine that slept is no consent.
        remind: When those who may decide are told again.
        escalate: Who may decide, too, after how long: the chain.
        to: For `escalate` at the end.
        hours: Only working time counts. None: any time does.

    Raises:
        ValueError: It makes no sense.
    """

    after: timedelta | EndOfDay
    then: End = "reject"
    remind: Sequence[timedelta] = ()
    escalate: Sequence[Escalate] = ()
    to: Sequence[str] = ()
    hours: WorkingTime | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.after, EndOfDay):
            _check_positive("Deadline", self.after)
        elif self.hours is None:
            raise ValueError("Deadline: EndOfDay() needs hours=, which say when a day ends")
        if self.then not in get_args(End):
            raise ValueError(f"Deadline: then= is 'reject', 'escalate' or 'approve', not {self.then!r}")
        if bool(self.to) != (self.then == "escalate"):
            raise ValueError("Deadline: to= says to whom then='escalate' goes, and is needed for that only")
        object.__setattr__(self, "to", _selectors("Deadline", "to", self.to) if self.to else ())
        if not isinstance(self.remind, Iterable) or not isinstance(self.escalate, Iterable):
            raise ValueError("Deadline: remind= takes timedeltas, escalate= takes Escalate(...), in a list")
        object.__setattr__(self, "remind", tuple(self.remind))
        object.__setattr__(self, "escalate", tuple(self.escalate))
        for reminder in self.remind:
            _check_positive("Deadline", reminder)
        if not all(isinstance(step, Escalate) for step in self.escalate):
            raise ValueError("Deadline: escalate= takes Escalate(after, to)")
        if isinstance(self.after, EndOfDay):
            return
        if late := [at for at in (*self.remind, *(step.after for step in self.escalate)) if at >= self.after]:
            raise ValueError(f"Deadline: {late[0]} is not before the end ({self.after}), so it would never come")

    def schedule(self, start: datetime) -> tuple[Turn, ...]:
        """What comes when, for a question that is asked at `start` (aware).

        Before the end of a day there may be no time left for a reminder; then it does not come.
        """
        start = start.astimezone(UTC)  # aware datetimes of one zone are added to as clocks on the wall
        turns = [Turn(at=self._at(start, after), then="remind") for after in self.remind]
        turns += [Turn(at=self._at(start, step.after), then="escalate", to=tuple(step.to)) for step in self.escalate]
        turns.sort(key=lambda turn: turn.at)
        end = self._at(start, self.after)
        patience = min(max((end - start) / 10, timedelta(minutes=1)), timedelta(hours=1))
        until = _whole(end + patience) if self.then == "approve" else None
        last = Turn(at=end, then=self.then, to=tuple(self.to), until=until)
        return (*(turn for turn in turns if turn.at < end), last)

    def instead(self, then: Literal["reject"]) -> "Deadline":
        """The same with another end."""
        return replace(self, then=then, to=())

    def _at(self, start: datetime, after: timedelta | EndOfDay) -> datetime:
        if isinstance(after, EndOfDay):
            assert self.hours is not None
            return _whole(self.hours.end_of_day(start, after.days))
        return _whole(start + after if self.hours is None else self.hours.after(start, after))


@dataclass(frozen=True)
class Earliest:
    """Of several deadlines, the one that comes first; which one that is depends on when the question is asked."""

    deadlines: tuple[Deadline, ...]

    @property
    def then(self) -> End:
        """`approve` only if all of them do."""
        ends = {deadline.then for deadline in self.deadlines}
        return "approve" if ends == {"approve"} else "reject"

    def schedule(self, start: datetime) -> tuple[Turn, ...]:
        """What comes when, for a question that is asked at `start` (aware)."""
        return min((deadline.schedule(start) for deadline in self.deadlines), key=lambda turns: turns[-1].at)

    def instead(self, then: Literal["reject"]) -> "Earliest":
        """The same with another end."""
        return Earliest(tuple(deadline.instead(then) for deadline in self.deadlines))


def earliest(deadlines: Sequence[Deadline]) -> Deadline | Earliest:
    """The one that comes first; where that depends on the time of asking, it is settled then."""
    durations = [d.after for d in deadlines if isinstance(d.after, timedelta)]
    if len(durations) < len(deadlines) or any(d.hours != deadlines[0].hours for d in deadlines):
        return Earliest(tuple(deadlines))
    return deadlines[durations.index(min(durations))]


def _whole(at: datetime) -> datetime:
    """The first whole millisecond from an instant on, as the ledger counts in them."""
    return at.astimezone(UTC) + timedelta(microseconds=-at.microsecond % 1000)


def _check_positive(name: str, after: object) -> None:
    if not isinstance(after, timedelta) or after <= timedelta(0):
        raise ValueError(f"{name}: {after!r} is no duration; give a positive timedelta(...)")


def _selectors(name: str, option: str, given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable) or not (found := tuple(given)):
        raise ValueError(f"{name}: {option}= takes a list such as ['role:lead']")
    for selector in found:
        check_selector(selector)
    return found
