"""The page of `hitl learn report`: its numbers, its pictures, and that nothing in it comes from elsewhere."""

import asyncio
import random
import re
import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from math import inf
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import pytest

pytest.importorskip("scipy")

from playwright.sync_api import Browser, Request, ViewportSize

from hitl_graph.learning import Certificate, DecisionLog
from hitl_graph.learning.labelling import Candidate
from hitl_graph.learning.report import overview, page, read
from hitl_graph.learning.report.figures import bins, growth, people, periods, sampled, thresholds
from hitl_graph.learning.report.reading import Opinion, Point, Record
from hitl_graph.learning.report.svg import Plot, linear, times
from hitl_graph.learning.report.words import percent, verdict
from hitl_graph.learning.standing import Overview, at_most
from hitl_graph.ledger import Ledger
from hitl_graph.ledger.routing import Source
from hitl_graph.model import approve
from tests.databases import open_ledger
from tests.learning.asking import unsure
from tests.learning.moderating import Feed

AT = datetime(2026, 11, 1, tzinfo=UTC)
EVIL = '<script>alert("x")</script>\u202e'


def fed(ledger: Ledger, count: int, seed: int = 0) -> Feed:
    feed, rng = (
        Feed(ledger, unsure, lambda post, score: score < 0.5 and random.Random(post).random() < 0.5),
        random.Random(seed),
    )
    for number in range(count):
        feed.post(f"{seed}-{number}", round(rng.random(), 3))
    return feed


def one(**how: Any) -> Overview:
    common: dict[str, Any] = {
        "source": Source("moderate", "b"), "current": True, "standing": "valid", "why": None, "first_at": AT,
        "last_at": AT, "calls": 10, "automatic": 5, "saved": 4, "threshold": 0.8, "error": 0.05, "confidence": 0.9,
        "labels": 100, "accepted": 60, "errors": 1, "issued_at": AT,
    }  # fmt: skip
    return Overview(**common | how)


def test_bins_hold_about_as_many_labels_each_and_equal_scores_stay_together() -> None:
    labels = [(n / 100, n < 30) for n in range(100)]
    found = bins(labels)
    assert [b.labels for b in found] == [16, 17, 17, 16, 17, 17]
    assert sum(b.right for b in found) == 70
    assert all(b.at_least <= b.right / b.labels <= b.at_most for b in found)
    assert (found[0].at_least, found[-1].at_most) == (0.0, 1.0)
    assert [(b.low, b.labels) for b in bins([(0.5, False)] * 50 + [(0.9, False)] * 50)] == [(0.5, 50), (0.9, 50)]
    assert bins([(-inf, True)] * 5) == []
    assert len(bins([(0.1, False)])) == 1


def test_thresholds_count_what_would_go_without_asking() -> None:
    labels = [(0.9, False), (0.9, True), (0.8, False), (0.1, True), (-inf, True)]
    found = thresholds(labels, 0.9)
    assert [(t.score, t.accepted, t.errors, t.share) for t in found] == [
        (0.9, 2, 1, 0.4), (0.8, 3, 1, 0.6), (0.1, 4, 2, 0.8),
    ]  # fmt: skip
    assert all(t.error_at_most == at_most(t.errors, t.accepted, 0.9) for t in found)
    assert len(thresholds([(n / 1000, False) for n in range(1000)], 0.9)) == 150
    assert at_most(0, 45, 0.9) == pytest.approx(1 - 0.1 ** (1 / 45))
    assert (at_most(0, 0, 0.9), at_most(3, 3, 0.9)) == (1.0, 1.0)


def point(minute: int, route: Any, wrong: bool | None = False, **how: Any) -> Point:
    how = {"score": 0.5, "is_sample": True, "over": False} | how
    return Point(AT + timedelta(minutes=minute), how["score"], route, how["is_sample"], wrong, how["over"])


def test_only_a_uniform_sample_estimates_and_what_nobody_will_answer_counts_as_wrong() -> None:
    points = [
        point(0, "unsure"), point(1, "unsure", True), point(2, "unsure", is_sample=False), point(3, "auto", None),
        point(4, "audit", None), point(5, "audit", None, over=True), point(6, "query", score=None),
    ]  # fmt: skip
    found = sampled(Record(one(), points))
    assert found.labels == ((0.5, False), (0.5, True), (0.5, True), (-inf, False))
    assert (found.waiting, found.since, found.before) == (1, None, None)


def test_saved_questions_and_audits_over_time() -> None:
    points = [point(0, "unsure"), point(1, "auto", None), point(2, "audit", True), point(3, "query"), point(4, "auto")]
    assert [(s.calls, s.asked) for s in growth(points)] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    audits = [point(n, "audit", n == 7) for n in range(12)] + [point(12, "audit", None)]
    found = periods(audits)
    assert [(p.right, p.wrong, p.waiting) for p in found] == [(3, 0, 0), (3, 0, 0), (2, 1, 0), (3, 0, 1)]
    assert (found[0].start, found[-1].end) == (AT, AT + timedelta(minutes=12))
    assert (periods([]), growth([])) == ([], [])
    assert len(periods([point(0, "audit")])) == 1


def test_each_reviewer_beside_the_majority() -> None:
    def row(**said: str) -> list[Opinion]:
        return [Opinion(name, answer) for name, answer in said.items()]

    found = people(
        [row(alice="ok"), row(alice="ok", bob="ok"), row(alice="ok", bob="no", carol="ok"), row(bob="no", carol="ok")]
    )
    assert [(r.name, r.answers, r.shared, r.agreed) for r in found.reviewers] == [
        ("alice", 3, 2, 2), ("bob", 3, 2, 1), ("carol", 2, 1, 1),
    ]  # fmt: skip
    assert found.shared == 3
    assert found.dissent == pytest.approx(2 / 7)
    assert found.alpha is not None
    assert people([row(alice="ok")]).alpha is None


def test_verdicts() -> None:
    assert verdict(one(error=None)).kind == "none"
    assert verdict(one(standing="suspended", why="audits")).sentence == "Taken back: audits."
    assert verdict(one(answered=0)).kind == "open"
    assert verdict(one(answered=100, mistakes=0, error_at_most=0.02)).kind == "holds"
    few = verdict(one(answered=10, mistakes=0, error_at_most=0.2))
    assert (few.kind, "takes 45 or more" in few.sentence) == ("open", True)
    assert verdict(one(answered=10, mistakes=2, error_at_most=0.5, drift=0.1)).kind == "watch"
    assert "taken back before the next call" in verdict(one(answered=10, mistakes=9, drift=1.0)).sentence


def test_percents() -> None:
    assert [percent(share) for share in (0.05, 0.005, 0.0, 1.0, 0.996, 0.333, 0.0099999)] == [
        "5 %", "0.5 %", "0 %", "100 %", "99.6 %", "33 %", "1 %",
    ]  # fmt: skip


def test_axes() -> None:
    assert [text for _, text in linear(0, 1, "x", percent=True).ticks] == [
        "0 %",
        "20 %",
        "40 %",
        "60 %",
        "80 %",
        "100 %",
    ]
    assert [value for value, _ in linear(-12.5, -0.1, "x").ticks] == [-12.5, -10, -7.5, -5, -2.5]
    for low, high in ((3.0, 3.0), (inf, inf), (0.0, 1e-9)):
        assert linear(low, high, "x").low < linear(low, high, "x").high
    assert times(AT, AT, "t").ticks[0][1] == "00:00:00"
    assert [text for _, text in times(AT, AT + timedelta(days=30), "t").ticks] == ["1 Nov", "11 Nov", "21 Nov", "1 Dec"]


def test_a_picture_is_xml_and_names_are_only_text() -> None:
    plot = Plot(EVIL, EVIL, "p", linear(0, 1, EVIL), linear(0, 1, "y"))
    plot.line([], "seen")
    plot.dot(0.5, 7.0, "dot", EVIL)
    plot.label(0, 0, EVIL, "note")
    assert ElementTree.fromstring(plot.svg.replace("&nbsp;", " ")).tag == "svg"
    assert "<script" not in plot.svg
    assert r"\u202e" in plot.svg


class Parts(HTMLParser):
    """What of a page loads or runs something, and whether its ids are unique and its pictures named."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.referred: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in ("script", "link", "img", "iframe") or {"src", "onclick", "onload", "style"} & set(given):
            self.loads.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.referred += given.get("aria-labelledby", "").split()
        self.referred += [given["href"].removeprefix("#")] if "href" in given else []
        if tag not in ("meta", "path", "circle", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "circle", "rect"):
            assert self.open.pop() == tag


@pytest.mark.both_databases
def test_the_page_of_a_database(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        fed(ledger, 200)
        assert isinstance(DecisionLog(ledger).calibrate(unsure), Certificate)
        fed(ledger, 60, seed=1)
        evil = Feed(ledger, unsure, lambda post, score: False, model=EVIL)
        evil.answer(evil.post("evil", 0.9, answer=False), EVIL)
        DecisionLog(ledger).suspend(unsure, reason=EVIL, by="bob")
        seen: list[tuple[int, int]] = []
        records = read(ledger, progress=lambda done, total: seen.append((done, total)))
    assert [record.overview.source.model for record in records] == [EVIL, "m"]
    assert seen[-1] == (261, 261)
    assert [len(record.points) for record in records] == [1, 260]
    told = page(records, AT)
    parts = Parts(told)
    assert (parts.loads, parts.open) == ([], [])
    assert len(set(parts.ids)) == len(parts.ids)
    assert set(parts.referred) <= set(parts.ids)
    assert "script" not in told.replace("&lt;script", "").replace("/script&gt;", "")
    assert told.count('role="img"') == told.count("<desc ") >= 5
    assert "Taken back: bob: &lt;script&gt;" in told
    assert re.search(r"From a score of [\d.]+ on nobody was asked, until \d{4}", told)
    assert "Content-Security-Policy" in told


def test_labels_of_a_pool_are_no_calls(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        pool = [Candidate(f"item-{n}", {"post": f"item-{n}"}, sureness=n / 60) for n in range(60)]
        for request in DecisionLog(ledger).choose(pool, 40, topic="t", uniform=0.6, unsure=unsure):
            ledger.decide(request.id, approve(), reviewer="alice", channel="test")
        [found] = ledger.read(overview)
        [record] = read(ledger)
    assert (found.calls, found.automatic, found.pooled, found.share) == (0, 0, 24, 0.0)
    assert len(sampled(record).labels) == 24
    told = page([record], AT)
    assert ("24 labels of a pool" in told, "No call was routed yet." in told) == (True, True)


async def test_an_overview_in_both_colours(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        await asyncio.to_thread(fed, ledger, 3)
        log = DecisionLog(ledger)
        assert await log.aoverview() == log.overview("moderate") == log.overview()
        assert await log.aoverview("other") == []


def test_what_somebody_has_to_look_at_comes_first() -> None:
    def record(name: str, **how: Any) -> Record:
        return Record(one(source=Source(name, "b", "m" * 64), answered=100, error_at_most=0.01, **how))

    told = page(
        [record("holds"), record("old", current=False, standing="suspended"), record("gone", standing="suspended")], AT
    )
    assert re.findall(r'<h2 id="h\d">(\w+)', told) == ["gone", "holds", "old"]
    assert f"Model {'m' * 12};" in told
    assert "not in use any more" in told


def test_after_a_suspension_the_labels_since_count_as_soon_as_they_tell_something(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        fed(ledger, 200)
        assert isinstance(DecisionLog(ledger).calibrate(unsure), Certificate)
        DecisionLog(ledger).suspend(unsure, reason="why not", by="bob")
        time.sleep(0.002)  # what is routed within the same millisecond counts as before
        fed(ledger, 10, seed=1)
        [record] = read(ledger)
        few = sampled(record)
        assert (len(few.labels), few.since, few.before) == (200, None, record.certificates[0].ended_at)
        fed(ledger, 10, seed=2)
        [record] = read(ledger)
        enough = sampled(record)
        assert (len(enough.labels), enough.since) == (20, record.certificates[0].ended_at)


def test_how_it_looks(browser: Browser, shots: Path, db_path: str, tmp_path: Path) -> None:
    with open_ledger(db_path) as ledger:
        fed(ledger, 200)
        assert isinstance(DecisionLog(ledger).calibrate(unsure), Certificate)
        fed(ledger, 150, seed=1)
        file = tmp_path / "report.html"
        file.write_text(page(read(ledger), AT))
    looks: list[tuple[int, Literal["light", "dark"]]] = [(1120, "light"), (1120, "dark"), (390, "light")]
    for width, scheme in looks:
        size: ViewportSize = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=False)
        opened, asked = context.new_page(), list[str]()

        def tell(request: Request, asked: list[str] = asked) -> None:
            asked.append(request.url)

        opened.on("request", tell)
        opened.goto(file.as_uri())
        opened.screenshot(path=shots / f"learning-{scheme}-{width}.png", full_page=True)
        assert asked == [file.as_uri()]
        for picture in opened.get_by_role("img").all():
            box = picture.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        assert opened.get_by_role("img").count() >= 4
        context.close()
