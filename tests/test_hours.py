"""Working time, held against a clock on the wall that is looked at every minute."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby, islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from hitl_graph.errors import PolicyError
from hitl_graph.policy import Deadline, EndOfDay, Escalate, Hours, Policy, Rule
from hitl_graph.policy.verdict import Call

ZONES = {  # a Sunday, or Friday, or whatever it was, on which the clocks changed
    "Europe/Berlin": [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)],
    "America/New_York": [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)],
    "Pacific/Apia": [datetime(2011, 12, 30, 10, tzinfo=UTC)],  # 30 December did not take place
    "Africa/Cairo": [datetime(2026, 4, 23, 22, tzinfo=UTC), datetime(2026, 10, 29, 21, tzinfo=UTC)],  # at midnight
    "America/Sao_Paulo": [datetime(2018, 11, 4, 3, tzinfo=UTC), datetime(2018, 2, 18, 2, tzinfo=UTC)],  # at midnight
    "Asia/Kathmandu": [datetime(2026, 5, 1, tzinfo=UTC)],
}
DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
MINUTE = timedelta(minutes=1)


class Wall:
    """What the clock on the wall says about one span of hours on some days of the week."""

    def __init__(self, zone: str, days: list[int], opens: int, closes: int, closed: list[date]) -> None:
        self.zone, self.days, self.opens, self.closes, self.closed = ZoneInfo(zone), days, opens, closes, closed

    def spec(self) -> str:
        days = ",".join(DAYS[day] for day in sorted(self.days))
        return f"{days} {self.opens // 60:02}:{self.opens % 60:02}-{self.closes // 60:02}:{self.closes % 60:02}"

    def works(self, clock: datetime) -> bool:
        minute = clock.hour * 60 + clock.minute
        for ago, at in ((0, minute), (1, minute + 24 * 60)):  # a shift may have begun the day before
            weekday = (clock.weekday() - ago) % 7
            closes = self.closes if self.closes > self.opens else self.closes + 24 * 60
            if weekday in self.days and self.opens <= at < closes and clock.date() not in self.closed:
                return True
        return False

    def minutes(self, start: datetime) -> Iterator[tuple[datetime, date]]:
        """Each minute (its end) in which somebody works, and what day it is then."""
        at = start
        while True:
            clock = at.astimezone(self.zone)
            at += MINUTE
            if self.works(clock):
                yield at, clock.date()

    def after(self, start: datetime, worked: int) -> datetime:
        return next(islice(self.minutes(start), worked - 1, None))[0]

    def end_of_day(self, start: datetime, days: int) -> datetime:
        each = (list(minutes) for _, minutes in groupby(self.minutes(start), lambda minute: minute[1]))
        return next(islice(each, days, None))[-1][0]


@st.composite
def walls(draw: st.DrawFn) -> tuple[Wall, datetime]:
    zone = draw(st.sampled_from(sorted(ZONES)))
    change = draw(st.sampled_from(ZONES[zone]))
    start = change + draw(st.integers(-3 * 24 * 60, 24 * 60)) * MINUTE
    opens, length = draw(st.integers(0, 24 * 60 - 1)), draw(st.integers(30, 24 * 60 - 1))
    near = [change.date() + timedelta(days=n) for n in range(-2, 3)]
    closed = draw(st.lists(st.sampled_from(near), max_size=2))
    days = draw(st.lists(st.integers(0, 6), min_size=4, max_size=7, unique=True))
    closes = opens + length if opens + length <= 24 * 60 else opens + length - 24 * 60
    return Wall(zone, days, opens, closes, closed), start


@given(walls(), st.integers(1, 20 * 60), st.integers(0, 1))
@settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@example((Wall("Europe/Berlin", [6], 0, 150, []), datetime(2026, 10, 24, 22, tzinfo=UTC)), 181, 0)
@example((Wall("America/Sao_Paulo", [5, 6], 22 * 60, 2 * 60, []), datetime(2018, 11, 3, 12, tzinfo=UTC)), 200, 1)
def test_working_time_is_what_the_clock_on_the_wall_says(given: tuple[Wall, datetime], minutes: int, days: int) -> None:
    wall, start = given
    hours = Hours(wall.spec(), time_zone=str(wall.zone), closed=wall.closed)
    assert hours.after(start, minutes * MINUTE) == wall.after(start, minutes)
    assert hours.end_of_day(start, days) == wall.end_of_day(start, days)


def test_holidays_lunch_and_seconds() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = Hours(
        "Mo-Fr 09:00-12:00,13:00-17:00; PH off", time_zone="Europe/Berlin", country="DE", closed=[date(2026, 12, 24)]
    )
    thursday = datetime(2026, 4, 2, 16, 59, 30, tzinfo=berlin)  # before Good Friday and Easter Monday
    assert hours.after(thursday, timedelta(seconds=31)) == datetime(2026, 4, 7, 9, 0, 1, tzinfo=berlin)
    assert hours.after(thursday, timedelta(seconds=30)) == datetime(2026, 4, 2, 17, tzinfo=berlin)
    assert hours.after(thursday, timedelta(hours=4)).astimezone(berlin).time() == time(13, 59, 30)
    assert hours.end_of_day(thursday) == datetime(2026, 4, 2, 17, tzinfo=berlin)
    assert hours.end_of_day(thursday + timedelta(hours=1), 0) == datetime(2026, 4, 7, 17, tzinfo=berlin)
    assert hours.end_of_day(datetime(2026, 12, 23, 10, tzinfo=berlin), 1) == datetime(2026, 12, 28, 17, tzinfo=berlin)
    assert Hours("24/7", time_zone="UTC").after(thursday, timedelta(days=400)) == thursday.astimezone(UTC) + timedelta(
        days=400
    )
    assert (
        hours == eval(repr(hours).replace("['2026-12-24']", "[date(2026, 12, 24)]")) != Hours("24/7", time_zone="UTC")
    )


@pytest.mark.parametrize(
    ("spec", "options", "wrong"),
    [
        ("off", {}, "nobody ever works"),
        ("Mo-Fr 9-17", {}, "cannot be read from its character 7"),
        ("", {}, "cannot be read"),
        (None, {}, "cannot be read|argument"),
        ("Mo-Fr 09:00-17:00; PH off", {}, r"say whose with country='DE'"),
        ("PH off", {"country": "Germany"}, "Unknown ISO code"),
        ("SH off", {}, "school holidays"),
        ("sunrise-sunset", {}, "give clock times"),
        ("24/7", {"time_zone": "Europe/Atlantis"}, "there is no time zone"),
        ("24/7", {"time_zone": "../etc/passwd"}, "there is no time zone"),
        ("24/7", {"closed": ["2026-12-24"]}, "takes dates"),
    ],
)
def test_hours_that_make_no_sense_are_refused(spec: str, options: dict[str, object], wrong: str) -> None:
    with pytest.raises(PolicyError, match=wrong):
        Hours(spec, **{"time_zone": "Europe/Berlin", **options})  # type: ignore[arg-type]


def test_hours_that_never_come_again_are_an_error_not_a_loop() -> None:
    for hours, start in (
        (Hours("2020 Jan 01-2020 Feb 01", time_zone="UTC"), datetime(2026, 1, 1, tzinfo=UTC)),
        (Hours("Mo 09:00-10:00", time_zone="UTC"), datetime(9999, 12, 28, tzinfo=UTC)),
    ):
        with pytest.raises(PolicyError, match="in the ten years after"):
            hours.after(start, timedelta(hours=40))
        with pytest.raises(PolicyError, match="in the ten years after"):
            hours.end_of_day(start, 40)
    with pytest.raises(ValueError, match="aware"):
        Hours("24/7", time_zone="UTC").after(datetime(2026, 1, 1), MINUTE)  # noqa: DTZ001


def test_a_deadline_counts_hours_that_pass_not_hours_on_the_clock() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    evening = datetime(2026, 3, 28, 22, tzinfo=berlin)
    [turn] = Deadline(timedelta(hours=12)).schedule(evening)
    assert turn.at.astimezone(berlin) == datetime(2026, 3, 29, 11, tzinfo=berlin)
    [turn] = Deadline(timedelta(hours=12)).schedule(evening + timedelta(microseconds=1))
    assert turn.at.microsecond == 1000  # never early, and what the ledger stores


def test_the_end_of_the_next_working_day() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = Hours("Mo-Th 09:00-17:00; Fr 09:00-10:30; PH off", time_zone="Europe/Berlin", country="DE")
    deadline = Deadline(
        EndOfDay(1), remind=[timedelta(hours=2)], escalate=[Escalate(timedelta(hours=4), ["role:lead"])], hours=hours
    )
    asked = datetime(2026, 4, 8, 11, tzinfo=berlin)
    assert [(turn.then, turn.at.astimezone(berlin).isoformat()[5:16]) for turn in deadline.schedule(asked)] == [
        ("remind", "04-08T13:00"), ("escalate", "04-08T15:00"), ("reject", "04-09T17:00"),
    ]  # fmt: skip
    late = datetime(2026, 4, 9, 16, 45, tzinfo=berlin)  # a short day comes, and there is no time for the lead
    assert [turn.then for turn in deadline.schedule(late)] == ["reject"]
    with pytest.raises(ValueError, match="needs hours="):
        Deadline(EndOfDay(1))


def test_of_two_rules_the_deadline_that_comes_first_counts() -> None:
    office = Hours("Mo-Fr 09:00-17:00", time_zone="UTC")
    policy = Policy(
        [
            Rule("pay", "ask", deadline=Deadline(timedelta(hours=4), hours=office)),
            Rule("pay", "ask", deadline=timedelta(hours=24), on_deadline="reject"),
            Rule("pay", "ask", deadline=timedelta(hours=1), on_deadline="approve"),
        ]
    )
    deadline = policy.judge(Call("pay", {})).deadline
    assert deadline is not None
    assert deadline.then == "reject"
    monday, friday = datetime(2026, 4, 13, 10, tzinfo=UTC), datetime(2026, 4, 17, 16, tzinfo=UTC)
    assert deadline.schedule(monday)[-1].at == monday + timedelta(hours=4)
    assert deadline.schedule(friday)[-1].at == friday + timedelta(hours=24)


def test_silence_approves_only_where_approve_is_an_answer() -> None:
    with pytest.raises(PolicyError, match="the deadline approves, and allowed= does not"):
        Rule("pay", "ask", allowed=("reject",), deadline=timedelta(hours=1), on_deadline="approve")


def test_only_hours_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = "import sys, hitl_graph.policy, hitl_graph.worker; sys.exit('opening_hours' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loads], check=False).returncode == 0
    monkeypatch.setitem(sys.modules, "opening_hours", None)
    with pytest.raises(PolicyError, match=r'pip install "hitl-graph\[deadlines\]"'):
        Hours("24/7", time_zone="UTC")
    assert Deadline(timedelta(hours=1)).schedule(datetime(2026, 1, 1, tzinfo=UTC))
