"""When people work: opening hours as OpenStreetMap writes them, with time zones and public holidays. No I/O.

The rules are read by `opening_hours` (extra `deadlines`), in wall-clock time. What a wall clock shows at an instant is
settled here, stretch by stretch between the changes of the zone: an instant is working time if the clock on the wall
shows working time. So an hour that the clocks skip is not worked, and one that they repeat is worked twice.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hitl_graph.errors import PolicyError

if TYPE_CHECKING:
    from opening_hours import OpeningHours

__all__ = ["Hours"]

_DAY = timedelta(days=1)
_HORIZON = timedelta(days=3660)
_OPEN = "open"  # State.OPEN
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_LONG_AGO = datetime(1970, 1, 1)  # noqa: DTZ001 - on the clock of whatever zone
_COMMENT = re.compile(r'"[^"]*"')
_SUN = re.compile(r"\b(sunrise|sunset|dawn|dusk)\b")


class Hours:
    """Working time, for `Deadline(hours=...)`.

    Args:
        spec: As OpenStreetMap's `opening_hours`, such as `Mo-Fr 09:00-17:00; PH off` or `24/7`. `PH` are public
            holidays. Hours that cross midnight (`22:00-06:00`) begin on the days that are named; a day that is off is
            off from midnight to midnight.
        time_zone: IANA name, such as `Europe/Berlin`: the zone in which the hours are meant.
        country: ISO code, such as `DE`: whose public holidays `PH` means.
        closed: Days on which nobody works beside those: company holidays, regional holidays.

    Attributes:
        zone: The zone, as Python has it.

    Raises:
        PolicyError: The hours cannot be read, or nobody ever works; or the extra is not installed.
    """

    def __init__(self, spec: str, *, time_zone: str, country: str | None = None, closed: Iterable[date] = ()) -> None:
        self.spec, self.time_zone, self.country = spec, time_zone, country
        self.closed = tuple(sorted(set(closed)))
        self.zone = self._load_zone()
        self._rules = self._parse()

    def __repr__(self) -> str:
        more = f", country={self.country!r}" if self.country else ""
        more += f", closed={[day.isoformat() for day in self.closed]}" if self.closed else ""
        return f"Hours({self.spec!r}, time_zone={self.time_zone!r}{more})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hours) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.spec, self.time_zone, self.country, self.closed

    def after(self, start: datetime, worked: timedelta, /) -> datetime:
        """The first instant (UTC) by which people have worked so long since `start` (aware).

        Raises:
            PolicyError: They do not in the ten years after it.
        """
        if worked < timedelta(0):
            raise ValueError(f"{worked} is no working time")
        left = worked
        for opens, closes in self.open(start):
            if left <= closes - opens:
                return opens + left
            left -= closes - opens
        raise self._wrong(f"not {worked} of working time come in the ten years after {start:%Y-%m-%d}")

    def end_of_day(self, start: datetime, days: int = 0, /) -> datetime:
        """When people stop working (UTC) on the day of `start`, or so many working days later.

        Days are those of the calendar in the zone. If nobody works any more on the day of `start`, the next working
        day stands in its place.

        Raises:
            PolicyError: There are not so many working days in the ten years after it.
        """
        if days < 0:
            raise ValueError(f"{days} is no number of days")
        seen, day, end = -1, date.min, start
        for opens, closes in self._by_day(start):
            today = opens.astimezone(self.zone).date()
            if today != day:
                if seen == days:
                    return end
                seen, day = seen + 1, today
            end = closes
        raise self._wrong(f"not {days + 1} working days come in the ten years after {start:%Y-%m-%d}")

    def open(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The stretches of working time (UTC, one after the other) in the ten years after `start` (aware)."""
        if start.tzinfo is None:
            raise ValueError("working time needs an aware datetime")
        at = start.astimezone(UTC)
        try:
            limit = at + _HORIZON
        except OverflowError:
            limit = datetime.max.replace(tzinfo=UTC) - 2 * _DAY
        while at < limit:
            until = self._same_offset(at)
            offset = self._offset(at)
            clock, stop = ((instant + offset).replace(tzinfo=None) for instant in (at, until))
            for opens, closes, state, _ in self._rules.intervals(clock, stop):
                if str(state) == _OPEN:
                    first, last = max(opens, clock), min(closes or stop, stop)
                    yield first.replace(tzinfo=UTC) - offset, last.replace(tzinfo=UTC) - offset
            at = until

    def _by_day(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        """As `open`, cut where the calendar turns to another day."""
        for opens, closes in self.open(start):
            while (midnight := self._midnight(opens)) < closes:
                yield opens, midnight
                opens = midnight
            yield opens, closes

    def _midnight(self, instant: datetime) -> datetime:
        """The first instant of the next day of the calendar."""
        today = instant.astimezone(self.zone).date()
        turn = datetime.combine(today + _DAY, time(), self.zone).astimezone(UTC)
        low = high = turn  # where clocks change at midnight, or a day is skipped, it is near
        while low > instant and low.astimezone(self.zone).date() > today:
            low -= timedelta(hours=3)
        while high.astimezone(self.zone).date() <= today:
            high += timedelta(hours=3)

        def is_over(at: datetime) -> bool:
            return at.astimezone(self.zone).date() > today

        return _first(max(low, instant), high, is_over)

    def _same_offset(self, at: datetime) -> datetime:
        """The end of a stretch, of a day at most, in which the clocks do not change."""
        offset, end = self._offset(at), at + _DAY
        if self._offset(end) == offset:
            return end

        def has_changed(instant: datetime) -> bool:
            return self._offset(instant) != offset

        return _first(at, end, has_changed)

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.zone).utcoffset() or timedelta(0)

    def _load_zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as exc:
            raise self._wrong(f"there is no time zone {self.time_zone!r}; give one such as 'Europe/Berlin'") from exc

    def _parse(self) -> "OpeningHours":
        try:
            import opening_hours
        except ImportError as exc:
            raise PolicyError('working hours need an extra: pip install "hitl-graph[deadlines]"') from exc
        bare = _COMMENT.sub("", self.spec) if isinstance(self.spec, str) else ""
        if re.search(r"\bPH\b", bare) and self.country is None:
            raise self._wrong("PH are public holidays; say whose with country='DE'")
        if re.search(r"\bSH\b", bare):
            raise self._wrong("school holidays (SH) are not known; give the days as closed=[date(...), ...]")
        if _SUN.search(bare):
            raise self._wrong("the sun is at no one place; give clock times")
        if not all(type(day) is date for day in self.closed):
            raise self._wrong("closed= takes dates")
        off = "".join(f"; {day.year:04} {_MONTHS[day.month - 1]} {day.day:02} off" for day in self.closed)
        try:
            rules = opening_hours.OpeningHours(f"{self.spec}{off}", country=self.country)
        except Exception as exc:
            raise self._wrong(_readable(exc)) from exc
        if not any(str(state) == _OPEN for *_, state, _ in rules.intervals(_LONG_AGO)):
            raise self._wrong("nobody ever works then")
        return rules

    def _wrong(self, what: str) -> PolicyError:
        return PolicyError(f"Hours({self.spec!r}): {what}")


def _first(low: datetime, high: datetime, holds: Callable[[datetime], bool]) -> datetime:
    """The first whole second after `low`, and at most `high`, at which something holds that goes on to hold."""
    if holds(low):
        return low
    low = low.replace(microsecond=0)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high.replace(microsecond=0)


def _readable(exc: Exception) -> str:
    """One line of a parser that draws where it is lost."""
    if found := re.search(r"--> \d+:(\d+)", str(exc)):
        return (
            f"it cannot be read from its character {found[1]} on; it is written as OpenStreetMap's opening_hours, such"
            " as 'Mo-Fr 09:00-17:00; PH off'"
        )
    return str(exc).splitlines()[0]
