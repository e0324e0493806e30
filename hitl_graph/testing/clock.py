"""A clock that stands still until it is told to move."""

from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """Give it to `Ledger(clock=...)`.

    Args:
        now: Where it starts; an aware datetime.
    """

    def __init__(self, now: datetime = datetime(2030, 1, 1, 9, tzinfo=UTC)) -> None:
        if now.tzinfo is None:
            raise ValueError("the clock needs an aware datetime, such as datetime(2030, 1, 1, tzinfo=UTC)")
        self.now = now

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move forward."""
        if by < timedelta(0):
            raise ValueError("time does not go back")
        self.now += by
