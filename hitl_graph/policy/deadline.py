"""By when people have to decide, and what happens on the way there and at the end. No I/O.

A duration counts from when the question is asked. With `hours`, only working time counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, get_args

from hitl_graph.reviewers import check_selector
from hitl_graph.terms import Turn

__all__ = ["Deadline", "End", "Escalate", "WorkingTime"]

End = Literal["reject", "escalate", "approve"]


class WorkingTime(Protocol):
    """Knows when people work; see `hitl_graph.policy.Hours`."""

    def after(self, start: datetime, worked: timedelta, /) -> datetime:
        """The instant by which so much working time has passed."""
        ...


@dataclass(frozen=True)
class Escalate:
    """After so long, these people may decide, too.

    Args:
        after: Counted from when the question is asked.
        to: Selectors, such as `role:lead`.
    """

    after: timedelta
    to: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_positive("Escalate", self.after)
        object.__setattr__(self, "to", _selectors("Escalate", "to", self.to))


@dataclass(frozen=True)
class Deadline:
    """When waiting ends.

    Args:
        after: Counted from when the question is asked.
        then: `reject`; `escalate`: `to` may decide, too, and it waits on; `approve`.
        remind: When those who may decide are told again.
        escalate: Who may decide, too, after how long: the chain.
        to: For `escalate` at the end.
        hours: Only working time counts. None: any time does.

    Raises:
        ValueError: It makes no sense.
    """

    after: timedelta
    then: End = "reject"
    remind: tuple[timedelta, ...] = ()
    escalate: tuple[Escalate, ...] = ()
    to: tuple[str, ...] = ()
    hours: WorkingTime | None = None

    def __post_init__(self) -> None:
        _check_positive("Deadline", self.after)
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
        if late := [at for at in (*self.remind, *(step.after for step in self.escalate)) if at >= self.after]:
            raise ValueError(f"Deadline: {late[0]} is not before the end ({self.after}), so it would never come")

    def schedule(self, start: datetime) -> tuple[Turn, ...]:
        """What comes when, for a question that is asked at `start` (aware)."""
        turns = [Turn(at=self._at(start, after), then="remind") for after in self.remind]
        turns += [Turn(at=self._at(start, step.after), then="escalate", to=step.to) for step in self.escalate]
        turns.sort(key=lambda turn: turn.at)
        return (*turns, Turn(at=self._at(start, self.after), then=self.then, to=self.to))

    def _at(self, start: datetime, after: timedelta) -> datetime:
        return start + after if self.hours is None else self.hours.after(start, after)


def _check_positive(name: str, after: object) -> None:
    if not isinstance(after, timedelta) or after <= timedelta(0):
        raise ValueError(f"{name}: {after!r} is no duration; give a positive timedelta(...)")


def _selectors(name: str, option: str, given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable) or not (found := tuple(given)):
        raise ValueError(f"{name}: {option}= takes a list such as ['role:lead']")
    for selector in found:
        check_selector(selector)
    return found
