"""A month of deadlines: three sweeping processes that are killed now and then, people who decide, machines that sleep.

What the log says afterwards is held against an oracle that knows nothing of `Hours` or `Deadline`: it looks at a clock
on the wall, minute by minute, over the changes of daylight saving time in the United States, in Europe and on Lord
Howe, and has its holidays written down by hand.
"""

import json
import mmap
import os
import random
import struct
import time
from bisect import bisect_right
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hitl_graph.deadlines import Came, Sweeper
from hitl_graph.errors import AlreadyDecidedError
from hitl_graph.ledger import Ledger, requests, schedule
from hitl_graph.model import Action, Request, approve, reject, request_id
from hitl_graph.policy import Deadline, EndOfDay, Escalate, Hours
from hitl_graph.policy.deadline import End
from hitl_graph.storage import Transaction
from hitl_graph.storage.sqlite import SqliteDatabase
from hitl_graph.terms import Terms
from tests.databases import NOTE, open_ledger
from tests.invariants.processes import Child, Report, child

START, DAYS, TICK = datetime(2026, 3, 5, tzinfo=UTC), 30, timedelta(hours=1)
GIVE_UP = START + timedelta(days=75)
MS = timedelta(milliseconds=1)


# --- the oracle ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Office:
    """Where people work from `opens` to `closes` (hours of the clock on the wall) on `weekdays`, but on no day off."""

    spec: str
    zone: str
    country: str | None
    opens: int
    closes: int
    weekdays: frozenset[int]
    off: frozenset[date]
    closed: tuple[date, ...] = ()

    def works(self, clock: datetime) -> bool:
        if clock.date() in self.off:
            return False
        if self.opens < self.closes:
            return clock.weekday() in self.weekdays and self.opens <= clock.hour < self.closes
        late = clock.hour >= self.opens and clock.weekday() in self.weekdays
        return late or (clock.hour < self.closes and (clock.weekday() - 1) % 7 in self.weekdays)


WEEK, EASTER = frozenset(range(5)), frozenset({date(2026, 4, 3), date(2026, 4, 6), date(2026, 5, 1), date(2026, 5, 14)})
INVENTORY = date(2026, 3, 17)
OFFICES = [
    Office("Mo-Fr 09:00-17:00; PH off", "Europe/Berlin", "DE", 9, 17, WEEK, EASTER),
    Office("Mo-Fr 08:00-18:00; PH off", "America/New_York", "US", 8, 18, WEEK, frozenset({INVENTORY}), (INVENTORY,)),
    Office("Mo-Fr 09:00-18:00; PH off", "Asia/Tokyo", "JP", 9, 18, WEEK, frozenset({
        date(2026, 3, 20), date(2026, 4, 29), date(2026, 5, 4), date(2026, 5, 5), date(2026, 5, 6)})),
    Office("Mo-Su 01:00-05:00", "Australia/Lord_Howe", None, 1, 5, frozenset(range(7)), frozenset()),
    Office("Sa-Su 22:00-06:00", "Europe/Berlin", None, 22, 6, frozenset({5, 6}), frozenset()),
]  # fmt: skip


class Wall:
    """Working time of an office, from looking at the clock every minute."""

    def __init__(self, office: Office) -> None:
        self.spans, self.ends = list[tuple[datetime, datetime]](), dict[date, datetime]()
        zone, at, minute = ZoneInfo(office.zone), START, timedelta(minutes=1)
        while at < GIVE_UP:
            clock = at.astimezone(zone)
            if office.works(clock):
                if self.spans and self.spans[-1][1] == at:
                    self.spans[-1] = self.spans[-1][0], at + minute
                else:
                    self.spans.append((at, at + minute))
                self.ends[clock.date()] = at + minute
            at += minute
        self.starts = [opens for opens, _ in self.spans]

    def after(self, start: datetime, worked: timedelta) -> datetime:
        at = max(0, bisect_right(self.starts, start) - 1)
        for opens, closes in self.spans[at:]:
            opens = max(opens, start)
            if opens < closes and worked <= closes - opens:
                return opens + worked
            worked -= max(closes - opens, timedelta(0))
        raise AssertionError("the simulation is too short")

    def end_of_day(self, start: datetime, days: int) -> datetime:
        return [end for end in self.ends.values() if end > start][days]


@dataclass(frozen=True)
class Case:
    """A request, what is to come of it, and when somebody means to decide it."""

    id: str
    asked: datetime
    turns: list[tuple[int, str, list[str]]]  # due_ms, what, to whom
    until_ms: int
    decided: datetime | None
    deadline: Deadline


def make(number: int, dice: random.Random, walls: list[Wall], hours: list[Hours]) -> Case:
    asked = START + timedelta(milliseconds=dice.randrange(DAYS * 24 * 3600 * 1000))
    where = dice.choice([None, *range(len(OFFICES))])
    units = [timedelta(minutes=dice.randrange(5, 16 * 60)) for _ in range(5)]
    after: timedelta | EndOfDay = max(units) + timedelta(minutes=1)
    if where is not None and dice.random() < 0.2:
        after = EndOfDay(dice.randrange(3))
    then: End = dice.choice(["reject", "reject", "escalate", "approve"])
    remind, chain = units[: dice.randrange(3)], units[2 : 2 + dice.randrange(3)]
    deadline = Deadline(
        after, then, remind, [Escalate(wait, [f"role:{n}"]) for n, wait in enumerate(chain)],
        ["role:last"] if then == "escalate" else (), None if where is None else hours[where],
    )  # fmt: skip

    def at(wait: timedelta | EndOfDay) -> datetime:
        if isinstance(wait, EndOfDay):
            return walls[where or 0].end_of_day(asked, wait.days)
        return asked + wait if where is None else walls[where].after(asked, wait)

    turns = [(at(wait), "reminded", ["*"]) for wait in remind]
    turns += [(at(wait), "escalated", [f"role:{n}"]) for n, wait in enumerate(chain)]
    end = at(after)
    last = ("escalated", ["role:last"]) if then == "escalate" else (then, ["*"])
    turns = [*sorted((turn for turn in turns if turn[0] < end), key=lambda turn: turn[0]), (end, *last)]
    patience = min(max((end - asked) / 10, timedelta(minutes=1)), timedelta(hours=1))
    decided = asked + dice.uniform(0.001, 1.3) * (end - asked) if dice.random() < 0.5 else None
    if decided is not None:  # a time that is no tick, so that the log tells who took a turn
        decided = decided.replace(microsecond=decided.microsecond // 1000 * 1000) + MS
        decided += MS if decided == decided.replace(minute=0, second=0, microsecond=0) else timedelta(0)
    return Case(
        request_id("t", str(number)), asked, [(ms(due), what, to) for due, what, to in turns],
        ms(end + patience), decided, deadline,
    )  # fmt: skip


def ms(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // MS


# --- the processes -------------------------------------------------------------------------------------------------


class SharedClock:
    """A clock in a file, that the test moves and every process reads."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def set(self, at: datetime) -> None:
        self._shared[:8] = struct.pack("q", ms(at))

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(struct.unpack("q", self._shared[:8])[0] / 1000, UTC)


def sweep(report: Report, db_path: str, told: str) -> None:
    ledger = open_quickly(db_path)
    ledger.clock = SharedClock(Path(db_path).with_name("clock"))
    out = os.open(told, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def tell(came: Came) -> None:
        os.write(out, f"{came.request.id} {came.request.fired}\n".encode())

    report("began")
    Sweeper(ledger, on_turn=tell).run(interval=0.01)


def open_quickly(db_path: str) -> Ledger:
    """What is killed needs no disk that survives loss of power."""
    if (Path(db_path).with_name(NOTE)).exists():
        return open_ledger(db_path)
    return Ledger(SqliteDatabase.open(db_path, synchronous="NORMAL"))


class Machines:
    """Three sweepers; any of them can be killed and started again."""

    def __init__(self, db_path: str) -> None:
        self.db_path, self.kills, self.running = db_path, 0, list[tuple[ExitStack, Child]]()
        self.start()

    def start(self) -> None:
        while len(self.running) < 3:
            stack = ExitStack()
            told = f"{self.db_path}.told.{self.kills}.{len(self.running)}"
            self.running.append((stack, stack.enter_context(child(sweep, self.db_path, told))))

    def kill(self, number: int) -> None:
        stack, process = self.running.pop(number)
        process.process.kill()
        stack.close()
        self.kills += 1

    def kill_one(self, dice: random.Random) -> None:
        if self.running:
            self.kill(dice.randrange(len(self.running)))

    def kill_all(self) -> None:
        while self.running:
            self.kill(0)


# --- the month -----------------------------------------------------------------------------------------------------


def open_all(tx: Transaction, cases: list[Case]) -> None:
    for case in cases:
        request = Request(
            id=case.id, kind="approval", thread_id=case.id, interrupt_id=case.id, action_key=case.id,
            action=Action(name="pay", args={"eur": 5}), terms=Terms(schedule=case.deadline.schedule(case.asked)),
        )  # fmt: skip
        requests.open_request(tx, ms(case.asked), request, checkpoint_id="c", task_id="k", parked=1)


def live(db_path: str, cases: list[Case], dice: random.Random) -> tuple[int, int]:
    """Let the month pass; returns how often a process was killed, and how many answers came too late."""
    clock = SharedClock(Path(db_path).with_name("clock"))
    clock.set(START)
    now, too_late = START, 0
    with open_quickly(db_path) as ledger:
        ledger.clock = lambda: now
        asked = sorted(cases, key=lambda case: case.asked)
        answers = sorted((case.decided, case.id) for case in cases if case.decided is not None)
        machines = Machines(db_path)
        sleeps = sorted(START + dice.random() * timedelta(days=DAYS) for _ in range(4))
        tick = START
        try:
            while tick < GIVE_UP:
                sleep = bool(sleeps) and sleeps[0] <= tick
                if sleep:
                    del sleeps[0]
                    machines.kill_all()
                tick += timedelta(hours=dice.randrange(3, 50)) if sleep else TICK
                fresh = [case for case in asked if case.asked <= tick]
                if fresh:
                    del asked[: len(fresh)]
                    ledger.write(open_all, fresh)
                while answers and answers[0][0] <= tick:
                    now, own = answers.pop(0)
                    try:
                        ledger.decide(own, dice.choice([approve(), reject("no")]), reviewer="alice", channel="test")
                    except AlreadyDecidedError:
                        too_late += 1
                clock.set(tick)
                if dice.random() < 0.06:
                    time.sleep(dice.random() * 0.01)  # perhaps in the middle of a transaction
                    machines.kill(dice.randrange(3)) if machines.running else None
                machines.start()
                wait_for(ledger, machines, tick)
                if not asked and not answers and ledger.read(schedule.next_due) is None:
                    break
        finally:
            machines.kill_all()
        assert ledger.read(schedule.next_due) is None
        return machines.kills, too_late


def wait_for(ledger: Ledger, machines: Machines, tick: datetime) -> None:
    until = time.monotonic() + 60
    while (due := ledger.read(schedule.next_due)) is not None and due <= ms(tick):
        assert time.monotonic() < until, f"nobody takes what is due; {[p.told for _, p in machines.running]}"
        time.sleep(0.003)


@pytest.mark.slow
@pytest.mark.both_databases
def test_each_turn_of_a_month_comes_exactly_once(db_path: str, engine: str) -> None:
    dice, count = random.Random(5), 10_000 if engine == "sqlite" else 500
    walls = [Wall(office) for office in OFFICES]
    hours = [Hours(o.spec, time_zone=o.zone, country=o.country, closed=o.closed) for o in OFFICES]
    cases = [make(number, dice, walls, hours) for number in range(count)]
    began = time.monotonic()
    kills, too_late = live(db_path, cases, dice)
    took = time.monotonic() - began

    with open_ledger(db_path) as ledger:
        assert ledger.verify_audit().problem is None
        rows = ledger.read(_log)
    events: dict[str, list[tuple[str, int, dict[str, Any], str]]] = {case.id: [] for case in cases}
    swept = list[int]()
    for subject, event, at_ms, body, actor in rows:
        events[subject].append((event.partition(".")[2], at_ms, json.loads(body), actor))
        if "due_ms" in body and at_ms % (TICK // MS) == 0:
            swept.append(json.loads(body)["due_ms"])
    assert swept == sorted(swept), "what was due first came first, across all requests"
    total = Counter[str]()
    for case in cases:
        total.update(check(case, events[case.id]))
    told = Counter(line for path in Path(db_path).parent.glob("*.told.*") for line in path.read_text().splitlines())
    assert max(told.values()) == 1
    assert len(told) >= 0.9 * len(swept)
    total.update({"answers too late": too_late, "kills": kills, "told": len(told), "swept": len(swept)})
    print(f"\n{engine}: {count} requests in {took:.0f} s: {dict(total)}")
    assert kills > 20
    assert min(total[what] for what in ("reminded", "escalated", "reject", "approve", "lapsed", "by people")) > 0


def _log(tx: Transaction) -> list[Any]:
    return tx.execute("SELECT subject, event, at_ms, body, actor FROM hitl_audit ORDER BY seq").fetchall()


def check(case: Case, events: list[tuple[str, int, dict[str, Any], str]]) -> Counter[str]:
    """Hold what the log says of a request against what was to come; returns what came, for the figures."""
    opened, *rest = events
    assert opened[0] == "opened"
    came, decision = Counter[str](), None
    turns = iter(case.turns)
    while rest:
        event, at_ms, body, actor = rest.pop(0)
        if event == "decided":
            decision = at_ms, actor
            assert rest == [], "nothing comes after the decision"
            break
        due_ms, what, to = next(turns)
        assert (body["due_ms"], body["to"], actor) == (due_ms, to, "deadline")
        assert at_ms >= due_ms, "nothing comes early"
        in_time = at_ms <= case.until_ms
        assert event == {"reject": "timed_out", "approve": "timed_out" if in_time else "lapsed"}.get(what, what)
        came[event if event == "lapsed" else what] += 1
        if event == "timed_out":
            assert [row[0] for row in rest] == ["decided"]
            assert rest[0][1:] == (at_ms, rest[0][2], "deadline")
            assert json.loads(rest[0][2]["decision"])["type"] == what
    left = list(turns)
    if decision is None or decision[1] == "deadline":
        assert left == [], "every turn comes"
    else:
        assert case.decided is not None
        assert decision == (ms(case.decided), "alice")
        assert all(due > ms(case.decided) for due, *_ in left), "what was due before the answer came before it"
        assert all(due <= ms(case.decided) for due, *_ in case.turns[: len(case.turns) - len(left)])
        came["by people"] += 1
    if decision is None:
        assert case.turns[-1][1] in ("escalated", "approve")
        assert case.decided is None
        came["waiting on"] += 1
    return came
