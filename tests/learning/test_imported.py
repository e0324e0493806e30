"""Labels that were made elsewhere: what is understood is decided, with every check; nothing else is, and says why."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitl_graph.errors import LearningError
from hitl_graph.inbox import Inbox
from hitl_graph.learning.export import export_waiting
from hitl_graph.learning.imported import Imported, import_labels, labelled
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import WORDS, Action, Request
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.terms import Stage, Terms
from tests.databases import open_ledger

ARGS: dict[str, Any] = {"eur": 5, "to": "bob"}
ALICE = "alice@corp.example"
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


@pytest.fixture
def ledger(db_path: str) -> Iterator[Ledger]:
    with open_ledger(db_path) as found:
        yield found


def ask(ledger: Ledger, name: str, **fields: Any) -> Request:
    """A question that waits: about a call of `pay`, or about a draft."""
    id = hashlib.sha256(name.encode()).hexdigest()[:20]
    known: dict[str, Any] = {"kind": "approval", "action": Action(name="pay", args=ARGS), **fields}
    if "draft" in fields:
        known |= {"kind": "review", "action": None}
    request = Request(**{"id": id, "thread_id": f"thread-{name}", "interrupt_id": name, **known})
    ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id="c", task_id="t", parked=1)
    return Inbox(ledger).get(id)


def written(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "labels"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def refusals(result: Imported) -> dict[str, str]:
    return {one.where: one.reason for one in result.refused}


@pytest.mark.both_databases
def test_each_label_is_a_decision_of_whoever_made_it(ledger: Ledger, tmp_path: Path) -> None:
    asked = [ask(ledger, name) for name in ("a", "b", "c")] + [ask(ledger, "d", draft="Hey"), ask(ledger, "e")]
    path = written(
        tmp_path,
        {"id": asked[0].id, "decision": "approve", "reviewer": ALICE, "digest": asked[0].digest, "output": ARGS},
        {"id": asked[1].id, "decision": "edit", "output": {**ARGS, "eur": 4}, "message": "less", "reviewer": "bob"},
        {"id": asked[2].id, "decision": "reject", "message": "no", "reviewer": ALICE},
        {"id": asked[3].id, "decision": "respond", "message": "kinder", "reviewer": ALICE},
        {"id": asked[4].id, "decision": None, "reviewer": None},
    )
    assert import_labels(ledger, path, "jsonl") == Imported(4, 0, 1, ())
    found = [Inbox(ledger).get(request.id) for request in asked]
    assert [one.decision.type if one.decision else None for one in found] == [
        "approve", "edit", "reject", "respond", None,
    ]  # fmt: skip
    assert [one.reviewer for one in found] == [ALICE, "bob", ALICE, ALICE, None]
    assert {one.channel for one in found[:4]} == {"import:jsonl"}
    assert found[1].decision is not None
    assert (found[1].decision.args, found[1].decision.message) == ({"eur": 4, "to": "bob"}, "less")
    assert ledger.verify_audit().ok
    again = import_labels(ledger, path, "jsonl")
    assert (again.decided, len(again.refused), again.unanswered) == (0, 4, 1)
    assert "already decided: approve by alice" in refusals(again)["line 1"]


@pytest.mark.both_databases
def test_a_bad_line_keeps_no_other_from_being_recorded(ledger: Ledger, tmp_path: Path) -> None:
    asked = {name: ask(ledger, name) for name in "abcdefghijklmno"}
    good = {"decision": "approve", "reviewer": "alice"}

    def row(name: str, **fields: Any) -> dict[str, Any]:
        return {"id": asked[name].id, **good, **fields}

    path = written(
        tmp_path,
        row("a"),
        "{this is no JSON",
        row("b", decision="yes"),
        row("c", decision=True),
        row("d", reviewer=None),
        row("e", id=asked["e"].id[:8]),
        row("f", digest="0" * 64),
        row("g", output={**ARGS, "eur": 9}),
        row("h", decision="edit"),
        row("i", decision="edit", output=ARGS),
        row("j", decision="respond", message="  "),
        f'{{"id": "{asked["k"].id}", "decision": "reject", "decision": "approve", "reviewer": "alice"}}',
        ["approve"],
        row("l", decision="edit", output={"eur": float("nan"), "to": "bob"}),
        row("m", reviewer="Anonymous"),
        "",
        row("n", decision="edit", output=7),
        *(row("n", **{name: bad}) for name in ("id", "reviewer", "digest") for bad in ("\ud800", "a\0b", 1e999)),
        row("n", decision="reject", message="\ud800"),
        row("o"),
    )
    result = import_labels(ledger, path, "jsonl")
    assert (result.decided, result.votes, result.unanswered) == (2, 0, 0)
    expected = {
        2: "no JSON", 3: '"yes" is not one of approve', 4: "true is not one of", 5: "does not say who",
        6: "no request with exactly this id", 7: "not what you were shown", 8: "approves another output than was shown",
        9: "edits, and changes nothing", 10: "edits, and changes nothing", 11: "does not say what",
        12: "a key stands there twice", 13: "it is no object", 14: "NaN is no number", 15: "nobody who is known",
        17: "neither a text",
    }  # fmt: skip
    told = refusals(result)
    assert list(told) == [f"line {number}" for number in (*expected, *range(18, 28))]
    for number, reason in expected.items():
        assert reason in told[f"line {number}"]
    pending = {request.id for request in Inbox(ledger).pending()}
    assert pending == {asked[name].id for name in "bcdefghijklmn"}
    assert next(one for one in result.refused if one.where == "line 7").request_id == asked["f"].id


def test_bytes_that_are_no_text_are_one_bad_line(ledger: Ledger, tmp_path: Path) -> None:
    a = ask(ledger, "a")
    line = json.dumps({"id": a.id, "decision": "approve", "reviewer": "alice"}).encode()
    (tmp_path / "labels").write_bytes(b'\xef\xbb\xbf{"id": "\xff"}\n' + line + b"\r\n" + b"[" * 100_000 + b"\n")
    result = import_labels(ledger, tmp_path / "labels", "jsonl")
    assert (result.decided, len(result.refused)) == (1, 2)


NOISE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.lists(st.text(max_size=2), max_size=2)
    | st.text(max_size=5).filter(lambda text: text not in WORDS)
    | st.sampled_from(["APPROVE", "approve ", "yes", "ok", "approved", ["approve"], {"type": "approve"}])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(["decision", "output", "message"]), NOISE), min_size=1, max_size=4))
def test_what_is_not_one_of_the_four_words_decides_nothing(
    ledger: Ledger, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    a = ask(ledger, "a")
    known = {"id": a.id, "digest": a.digest, "reviewer": "alice"}
    result = import_labels(ledger, written(tmp_path, *({**row, **known} for row in rows)), "jsonl")
    assert (result.decided, result.votes, result.unanswered + len(result.refused)) == (0, 0, len(rows))
    assert Inbox(ledger).get(a.id).decision is None


def test_who_may_not_decide_is_refused_and_a_quorum_waits_for_others(ledger: Ledger, tmp_path: Path) -> None:
    ledger.directory = StaticDirectory([Reviewer("carol", ["finance"]), Reviewer("dave", ["finance"])])
    terms = Terms(stages=(Stage(reviewers=("role:finance",), quorum=2),))
    asked = ask(ledger, "a", terms=terms)
    rows = [{"id": asked.id, "decision": "approve", "reviewer": name} for name in ("alice", "carol", "carol", "dave")]
    result = import_labels(ledger, written(tmp_path, *rows), "jsonl")
    assert (result.decided, result.votes) == (1, 1)
    told = refusals(result)
    assert list(told) == ["line 1", "line 3"]
    assert "role:finance" in told["line 1"]
    assert Inbox(ledger).get(asked.id).reviewer == "carol, dave"


# --- Label Studio -----------------------------------------------------------------------------------------------------


def annotated(task: dict[str, Any], word: str | None, who: Any = 7, **texts: str) -> dict[str, Any]:
    """The task as Label Studio exports it: with its own number, and what somebody chose and typed."""
    result = [{"from_name": name, "type": "textarea", "value": {"text": [text]}} for name, text in texts.items()]
    if word is not None:
        result.append({"from_name": "decision", "type": "choices", "value": {"choices": [word]}})
    made = {"id": 1, "completed_by": who, "was_cancelled": False, "result": result}
    return {"id": 11, "project": 1, **task, "annotations": [*task.get("annotations", []), made]}


@pytest.fixture
def tasks(ledger: Ledger, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What waits, by thread, as tasks of Label Studio."""
    for name, fields in {"a": {}, "b": {}, "c": {"draft": "Hey"}, "d": {"draft": {"text": "Hey"}}, "e": {}}.items():
        ask(ledger, name, **fields)  # type: ignore[arg-type]
    ask(ledger, "q", kind="question", action=None)
    exported = export_waiting(Inbox(ledger).pending(), "label-studio", tmp_path / "tasks.json")
    assert (exported.written, exported.skipped) == (5, {"no proposal to label: question": 1})
    found = json.loads((tmp_path / "tasks.json").read_text())
    return {task["data"]["thread_id"].removeprefix("thread-"): task for task in found}


def test_what_waits_goes_to_label_studio_and_comes_back(
    ledger: Ledger, tasks: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    back = [
        annotated(tasks["a"], "approve", edited=json.dumps(ARGS, indent=2)),  # as it was shown, laid out anew
        annotated(tasks["b"], "edit", edited='{"to": "bob", "eur": 4}', message="less"),
        annotated(tasks["c"], "edit", {"id": 8, "email": "bob@corp.example"}, edited="Dear Bob"),
        annotated(tasks["d"], "edit", edited='{"text": "Dear Bob"}'),
        {"id": 5, **tasks["e"], "annotations": []},
    ]
    (tmp_path / "back.json").write_text(json.dumps(back))
    result = import_labels(ledger, tmp_path / "back.json", "label-studio", names={"7": "alice"})
    assert result == Imported(4, 0, 1, ())
    found = {request.thread_id[-1]: request for name in "abcd" for request in ledger.history(f"thread-{name}")}
    assert [found[name].reviewer for name in "abcd"] == ["alice", "alice", "bob@corp.example", "alice"]
    made = {name: one.decision for name, one in found.items() if one.decision}
    assert made["a"].type == "approve"
    assert (made["b"].args, made["b"].message) == ({"eur": 4, "to": "bob"}, "less")
    assert (made["c"].draft, made["d"].draft) == ("Dear Bob", {"text": "Dear Bob"})
    assert {one.channel for one in found.values()} == {"import:label-studio"}


def test_label_studio_says_what_it_cannot_mean(
    ledger: Ledger, tasks: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    stale = {**tasks["a"], "data": {**tasks["a"]["data"], "digest": "0" * 64}}
    skipped = annotated(tasks["b"], "approve")
    skipped["annotations"][0]["was_cancelled"] = True
    twice = annotated(tasks["b"], "approve")
    twice["annotations"][0]["result"] *= 2
    back = [
        annotated(tasks["a"], "approve"),
        annotated(stale, "approve", ALICE),
        annotated(tasks["b"], "approve", ALICE, edited='{"eur": 50000, "to": "bob"}'),
        annotated(tasks["b"], "edit", ALICE, edited="4 euros"),
        annotated(tasks["b"], None, ALICE, message="hm"),
        annotated(tasks["b"], "maybe", ALICE),
        skipped,
        twice,
        {"id": 3, "decision": "approve", "request_id": tasks["b"]["data"]["request_id"]},
        annotated(annotated(tasks["e"], "maybe", ALICE), "reject", ALICE),
    ]
    (tmp_path / "back.json").write_text(json.dumps(back))
    result = import_labels(ledger, tmp_path / "back.json", "label-studio")
    assert (result.decided, result.unanswered) == (1, 1)
    told = refusals(result)
    expected = {
        "item 1, annotation 1": "nobody said who 7 is",
        "item 2, annotation 1": "not what you were shown",
        "item 3, annotation 1": "approves another output",
        "item 4, annotation 1": "no JSON",
        "item 5, annotation 1": "no decisions",
        "item 6, annotation 1": '"maybe" is not one of',
        "item 8, annotation 1": "2 decisions",
        "item 9": "not as JSON-MIN",
        "item 10, annotation 1": '"maybe" is not one of',
    }
    assert list(told) == list(expected)
    for where, reason in expected.items():
        assert reason in told[where]
    [rejected] = ledger.history("thread-e")
    assert rejected.decision is not None
    assert rejected.decision.type == "reject"


# --- Argilla ----------------------------------------------------------------------------------------------------------


def responded(record: dict[str, Any], *responses: tuple[str, str, str | None], **texts: str) -> dict[str, Any]:
    """The record as `records.to_list(flatten=True)` gives it."""
    flat = {"id": record["id"], **record["fields"], **record["metadata"], "status": "completed", "_server_id": UUID}
    columns = {"responses": 0, "responses.users": 1, "responses.status": 2}
    flat |= {f"decision.{name}": [one[at] for one in responses] for name, at in columns.items()}
    for name, text in texts.items():
        flat |= {f"{name}.responses": [text], f"{name}.responses.users": [UUID]}
    return flat


def test_what_waits_goes_to_argilla_and_comes_back(ledger: Ledger, tmp_path: Path) -> None:
    asked = [ask(ledger, name) for name in ("a", "b", "c", "d", "e", "f")]
    export_waiting(Inbox(ledger).pending(), "argilla", tmp_path / "records.json")
    records = {one["id"]: one for one in json.loads((tmp_path / "records.json").read_text())}
    of = [records[request.id] for request in asked]
    back = [
        responded(of[0], ("approve", UUID, "submitted")),
        responded(of[1], ("edit", UUID, "submitted"), edited='{"eur": 4, "to": "bob"}', message="less"),
        responded(of[2], ("approve", UUID, "draft"), ("approve", UUID, "discarded")),
        responded(of[3], ("approve", UUID, None)),
        {**of[4], "responses": {"decision": [{"value": "approve", "user_id": UUID}]}},
        {"id": of[5]["id"], "decision.responses": None, "decision.responses.users": None},
    ]
    (tmp_path / "back.json").write_text(json.dumps(back))
    assert (
        "nobody said who 3fa85f64"
        in refusals(import_labels(ledger, tmp_path / "back.json", "argilla"))["item 1, response 1"]
    )
    result = import_labels(ledger, tmp_path / "back.json", "argilla", names={UUID: "alice"})
    assert (result.decided, result.unanswered) == (2, 3)
    told = refusals(result)
    assert list(told) == ["item 4, response 1", "item 5"]
    assert "status is None" in told["item 4, response 1"]
    assert "to_list(flatten=True)" in told["item 5"]
    [second] = ledger.history("thread-b")
    assert second.decision is not None
    assert second.decision.args == {"eur": 4, "to": "bob"}
    assert (second.reviewer, second.channel) == ("alice", "import:argilla")


# --- JSON lines, and files --------------------------------------------------------------------------------------------


def test_lines_that_are_completed_are_read(ledger: Ledger, tmp_path: Path) -> None:
    a, b, _ = ask(ledger, "a"), ask(ledger, "b", draft="Hey"), ask(ledger, "c")
    given: dict[str, Any] = {a.id: [{"role": "user", "content": "Pay Bob"}]}
    assert (
        export_waiting(Inbox(ledger).pending(), "jsonl", tmp_path / "out", input_of=lambda id: given.get(id)).written
        == 3
    )
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "out").read_text().splitlines())}
    assert rows[a.id]["input"] == given[a.id]
    rows[a.id] |= {"decision": "approve", "reviewer": "alice"}
    rows[b.id] |= {"decision": "edit", "output": "Dear Bob", "reviewer": "alice"}
    assert import_labels(ledger, written(tmp_path, *rows.values()), "jsonl") == Imported(2, 0, 1, ())


def test_whose_labels_they_are_can_be_said_for_those_that_name_nobody(ledger: Ledger, tmp_path: Path) -> None:
    a, b = ask(ledger, "a"), ask(ledger, "b")
    rows = [{"id": a.id, "decision": "approve"}, {"id": b.id, "decision": "approve", "reviewer": "7"}]
    result = import_labels(ledger, written(tmp_path, *rows), "jsonl", reviewer="alice")
    assert (result.decided, list(refusals(result))) == (1, ["line 2"])  # 7 is somebody, and not her


def test_a_file_that_is_none_is_an_error(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="cannot be read: No such file"):
        list(labelled(tmp_path / "none", "jsonl"))
    with pytest.raises(LearningError, match="no format 'trl-sft' to label in"):
        import_labels(ledger, written(tmp_path), "trl-sft")
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf []")
    assert import_labels(ledger, tmp_path / "marked.json", "label-studio") == Imported(0, 0, 0, ())
    (tmp_path / "half.json").write_text('[{"id": 1}, ')
    result = import_labels(ledger, tmp_path / "half.json", "label-studio")
    assert "the file" in refusals(result)
    assert import_labels(ledger, written(tmp_path), "jsonl") == Imported(0, 0, 0, ())


def test_progress_is_told(ledger: Ledger, tmp_path: Path) -> None:
    told = list[int]()
    import_labels(ledger, written(tmp_path, {}, {}, {}), "jsonl", progress=told.append)
    assert told == [1, 2, 3]
