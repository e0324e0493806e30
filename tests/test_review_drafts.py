"""Drafts as plain data: their files, where a comment points, what changed. And the answers to them, on the wire."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hitl_graph.drafts import check_anchor, difference, excerpt, feedback, files, is_patch, locate, place
from hitl_graph.errors import InvalidDecisionError, RequestError, StaleRequestError
from hitl_graph.model import (
    Comment,
    Decision,
    Finding,
    Request,
    Review,
    approve,
    canonical,
    digest,
    edit,
    request_id,
    respond,
)
from hitl_graph.wire import parse, payload, recognise, validate
from tests.test_model import JSON, TEXT, same

PATCH = """\
From: a developer

diff --git a/pay.py b/pay.py
index 123..456 100644
--- a/pay.py
+++ b/pay.py
@@ -10,4 +10,5 @@ def pay():
     check()
-    send(10)
+    send(11)
+    log()
 
     done()
--- /dev/null
+++ b/new.py
@@ -0,0 +1 @@
+--- not a header
--- a/old.py
+++ /dev/null
@@ -1 +0,0 @@
-gone
"""
FILES: list[Any] = [{"path": "a.py", "content": "one\ntwo"}, {"path": "b.py", "patch": "@@ -5,1 +7,2 @@\n x\n+y"}]
TREE: dict[str, Any] = {"title": "t", "items": [{"price": 3}, {"price": 4}], "a.b": 1}
SOME: list[Any] = [PATCH, FILES, TREE, "some text\nin two lines", "", []]
DRAFTS: st.SearchStrategy[Any] = st.sampled_from(SOME) | TEXT | st.lists(JSON) | st.dictionaries(TEXT, JSON)


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_files_of_a_patch() -> None:
    assert is_patch(PATCH)
    found = files(PATCH)
    assert list(found) == ["pay.py", "new.py", "old.py"]
    assert "+    log()" in found["pay.py"]
    assert "+--- not a header" in found["new.py"]


def test_the_files_of_a_list() -> None:
    assert files(FILES) == {"a.py": "one\ntwo", "b.py": "@@ -5,1 +7,2 @@\n x\n+y"}
    others: list[Any] = [
        "text",
        TREE,
        [1],
        [{"path": "a"}],
        [{"path": 1, "content": ""}],
        [*FILES, FILES[0]],
        [*FILES, "x"],
    ]
    for draft in others:
        assert files(draft) == {}


# --- anchors ---------------------------------------------------------------------------------------------------------

GOOD: list[tuple[Any, Comment, str, str | None]] = [
    ("a text", Comment(text="?", span=(2, 6)), "characters 2-6", "text"),
    ("a\nb", Comment(text="?", line=2), "line 2", "b"),
    ("a", Comment(text="?"), "", None),
    (TREE, Comment(text="?", field="items.1.price"), "items.1.price", "4"),
    (TREE, Comment(text="?", field="a.b"), "a.b", "1"),
    (TREE, Comment(text="?", field="items"), "items", '[{"price": 3}, {"price": 4}]'),
    (FILES, Comment(text="?", file="a.py"), "a.py", None),
    (FILES, Comment(text="?", file="a.py", line=2), "a.py:2", "two"),
    (FILES, Comment(text="?", file="b.py", line=8), "b.py:8", "y"),
    (PATCH, Comment(text="?", file="pay.py", line=11), "pay.py:11", "    send(11)"),
    (PATCH, Comment(text="?", file="pay.py", line=14), "pay.py:14", "    done()"),
    (PATCH, Comment(text="?", span=(0, 4)), "characters 0-4", "From"),
]


@pytest.mark.parametrize(("draft", "comment", "where", "quote"), GOOD)
def test_a_comment_points_to_a_place(draft: Any, comment: Comment, where: str, quote: str | None) -> None:
    check_anchor(comment, draft)
    assert (place(comment), excerpt(comment, draft)) == (where, quote)


BAD: list[tuple[Any, Comment, str]] = [
    ("text", Comment(text="?", span=(2, 9)), "the span 2-9 is not within the text, which has 4 characters"),
    ("text", Comment(text="?", span=(2, 2)), "not within"),
    ("text", Comment(text="?", span=(-2, 2)), "not within"),
    (TREE, Comment(text="?", span=(0, 1)), "a span is one of a text"),
    (TREE, Comment(text="?", field="items.2"), r"no field 'items.2'; items has 0 to 1"),
    (TREE, Comment(text="?", field="name"), "the draft has title, items, a.b"),
    (TREE, Comment(text="?", field="title.x"), "title has no fields"),
    (TREE, Comment(text="?", field="items.-1"), "no field"),
    (TREE, Comment(text="?", field="items.²"), "no field"),
    ("text", Comment(text="?", field="x"), "the draft has no fields"),
    (FILES, Comment(text="?", file="c.py"), r"no file 'c.py'; its files are: a.py, b.py"),
    ("text", Comment(text="?", file="c.py"), "its files are: none"),
    (FILES, Comment(text="?", file="a.py", line=3), r"no line 3 in a.py"),
    (FILES, Comment(text="?", file="b.py", line=1), r"no line 1 in b.py"),
    (PATCH, Comment(text="?", file="pay.py", line=9), r"no line 9 in pay.py"),
    ("text", Comment(text="?", line=0), "no line 0 in the text"),
    (TREE, Comment(text="?", line=1), "say which file"),
]


@pytest.mark.parametrize(("draft", "comment", "problem"), BAD)
def test_a_comment_that_points_nowhere_is_refused(draft: Any, comment: Comment, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_anchor(comment, draft)
    assert excerpt(comment, draft) is None


@pytest.mark.parametrize(
    "anchors",
    [
        {"span": (0, 1), "field": "a"},
        {"field": "a", "file": "b"},
        {"span": (0, 1), "line": 1},
        {"field": "a", "line": 1},
        {"text": ""},
    ],
)
def test_a_comment_has_one_place_and_something_to_say(anchors: Any) -> None:
    with pytest.raises(ValidationError):
        Comment(**({"text": "x"} | anchors))


@pytest.mark.parametrize(
    ("draft", "where", "anchor"),
    [
        ("a text", "2-6", {"span": (2, 6)}),
        ("a text", "1", {"line": 1}),
        ("a text", "text", {"span": (2, 6)}),
        (PATCH, "pay.py", {"file": "pay.py"}),
        (PATCH, "pay.py:11", {"file": "pay.py", "line": 11}),
        (PATCH, "check()", {"span": (PATCH.index("check()"), PATCH.index("check()") + 7)}),
        (FILES, "a.py:2", {"file": "a.py", "line": 2}),
        (FILES, "0.content", {"field": "0.content"}),
        (TREE, "items.0.price", {"field": "items.0.price"}),
    ],
)
def test_what_a_person_types_is_a_place(draft: Any, where: str, anchor: Any) -> None:
    assert locate(draft, where) == anchor
    check_anchor(Comment(text="x", **anchor), draft)


@pytest.mark.parametrize(
    ("draft", "where", "problem"),
    [
        ("a b a", "a", "occur 2 times"),
        ("a", "b", "do not occur"),
        ("a", "", "do not occur"),
        (FILES, "c.py", "its files are: a.py, b.py"),
        (PATCH, "x.py", "its files are pay.py"),
    ],
)
def test_what_a_person_types_may_be_nowhere(draft: Any, where: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        locate(draft, where)


@given(DRAFTS, st.text(max_size=12))
def test_whatever_is_located_can_be_checked(draft: Any, where: str) -> None:
    with suppress(ValueError):
        comment = Comment(text="x", **locate(draft, where))
        check_anchor(comment, draft)
        excerpt(comment, draft)


# --- differences -----------------------------------------------------------------------------------------------------


def test_prose_is_compared_by_sentence() -> None:
    before = "The order was late. We are sorry for that. It will not happen again, we promise that to you. Yours."
    diff = difference(before * 2, before * 2 + " PS: thanks!")
    assert [line for line in diff.splitlines() if line[0] in "+-"] == ["+PS:", "+thanks!"]


def test_json_is_compared_by_line() -> None:
    diff = difference(TREE, TREE | {"title": "u"})
    assert [line for line in diff.splitlines() if line[0] in "+-"] == ['-  "title": "t"', '+  "title": "u"']


def test_patches_are_compared_file_by_file_and_moved_lines_do_not_count() -> None:
    moved = PATCH.replace("@@ -10,4 +10,5 @@", "@@ -20,4 +20,5 @@").replace("index 123..456", "index 123..789")
    assert difference(PATCH, moved) == ""
    diff = difference(PATCH, PATCH.replace("send(11)", "send(12)"))
    assert diff.splitlines()[:2] == ["--- pay.py", "+++ pay.py"]
    assert "-+    send(11)\n++    send(12)" in diff
    assert "-From: a developer" in difference(PATCH, PATCH.replace("From: a developer", "From: b"))


def test_what_stands_beside_the_files_counts_too() -> None:
    before: Any = [{"path": "a", "content": "x", "mode": 1}]
    assert '+    "mode": 2' in difference(before, [{"path": "a", "content": "x", "mode": 2}])


@given(DRAFTS, DRAFTS)
def test_a_difference_is_empty_only_for_the_same_draft(one: Any, other: Any) -> None:
    assert difference(one, one) == ""
    try:
        canonical([one, other])
    except TypeError:
        return
    if not same(one, other) and not (files(one) and files(other)):
        assert difference(one, other) or str(one).split() == str(other).split()


def test_feedback_for_the_writer() -> None:
    comments = [Comment(text="why?", field="items.0.price"), Comment(text="in general")]
    assert feedback(TREE, "alice", "Please look again.", comments) == (
        "Your draft was sent back by alice. Write it anew, with these changes:\n\nPlease look again.\n\n"
        "- items.0.price (3): why?\n- in general"
    )
    finding = Finding(text="nowhere", field="gone", then="revise")
    assert feedback("text", "checks", None, [finding]).endswith("with these changes:\n\n- gone: nowhere")


# --- requests and decisions ------------------------------------------------------------------------------------------

INTERRUPT = "c" * 32


def a_review(draft: Any, **more: Any) -> Request:
    fields = {"id": request_id("t", INTERRUPT), "kind": "review", "thread_id": "t", "interrupt_id": INTERRUPT}
    return Request.model_validate(fields | {"draft": draft, "review": Review()} | more)


def test_a_request_of_an_older_version_keeps_its_digest() -> None:
    """What 0.1.0 stored of a request: no `review`."""
    shown = {
        "id": request_id("t", INTERRUPT), "kind": "approval", "thread_id": "t", "interrupt_id": INTERRUPT,
        "action": {"name": "pay", "args": {"eur": 1}}, "question": None, "draft": None,
        "allowed": ["approve", "edit", "reject", "respond"], "labels": {}, "editable": None, "answer_schema": None,
        "answer_shape": "hitl", "description": "", "reason": "", "tool_call_id": None, "action_key": None,
        "ignored": None, "score": None, "model_digest": None, "route": "policy", "propensity": 1.0, "reference": None,
    }  # fmt: skip
    request = Request.model_validate(shown)
    assert request.shown() == shown
    assert request.digest == digest(shown) == "a7bdde1009375fa43a1fb95587c695edb1b486b8176c9af2d0ab855e8dfa566d"


@given(DRAFTS, st.lists(TEXT.filter(bool), max_size=2), JSON)
def test_a_review_survives_its_json_with_its_digest(draft: Any, texts: list[str], previous: Any) -> None:
    comments = tuple(Comment(text=text, span=(0, 1)) for text in texts)
    findings = tuple(Finding(text=text, check="c", then="revise") for text in texts)
    review = Review(revision=2, previous=previous, comments=comments, findings=findings, diff="x")
    request = a_review(draft, review=review)
    stored = json.loads(canonical(request.shown()))
    assert Request.model_validate(stored).digest == request.digest
    shown = json.loads(json.dumps(payload(request)))
    assert recognise("t", INTERRUPT, shown) == [Request.model_validate(stored)]
    assert request.digest != a_review(draft).digest


@given(TEXT, st.lists(st.builds(Comment, text=TEXT.filter(bool), line=st.none() | st.integers(0, 9)), max_size=3))
def test_a_decision_about_a_draft_survives_its_json(text: str, comments: list[Comment]) -> None:
    for decision in (respond(text, comments=comments), edit(text), edit([text])):
        stored = canonical(decision.model_dump(mode="json", exclude_defaults=True) | {"type": decision.type})
        assert Decision.model_validate_json(stored) == decision


def test_comments_go_with_respond_and_drafts_with_edit() -> None:
    for fields in (
        {"type": "approve", "draft": "x"},
        {"type": "edit", "draft": "x", "args": {}},
        {"type": "edit"},
        {"type": "respond"},
        {"type": "reject", "comments": [{"text": "x"}]},
    ):
        with pytest.raises(ValidationError):
            Decision.model_validate(fields)


def test_an_approval_takes_neither_comments_nor_a_draft() -> None:
    request = a_review(None, kind="approval", action={"name": "pay", "args": {}}, review=None)
    with pytest.raises(InvalidDecisionError, match="there is no draft to comment on"):
        validate(respond("x", comments=[Comment(text="y")]), request)
    with pytest.raises(InvalidDecisionError, match="all arguments of the action"):
        validate(edit("text"), request)


def test_an_edit_of_json_that_a_client_made_in_text_fields() -> None:
    """Agent Inbox shows what is no text as JSON text, and leaves out what is null."""
    request = a_review({"title": "a", "items": [1], "note": None})
    answer = [{"type": "edit", "args": {"action": "review", "args": {"title": "b", "items": "[1, 2]"}}}]
    decision = parse(answer, request)
    assert decision is not None
    assert decision.draft == {"title": "b", "items": [1, 2], "note": None}
    listed = parse([{"type": "edit", "args": {"action": "review", "args": {"draft": "[3]"}}}], a_review([1]))
    assert listed is not None
    assert listed.draft == [3]


def test_feedback_of_a_client_that_came_for_a_final_word_is_no_rejection() -> None:
    request = a_review("x", allowed=("approve", "edit", "reject"))
    with pytest.raises(InvalidDecisionError, match="respond is not offered"):
        parse([{"type": "response", "args": "one more thing"}], request)


NAMES = ["type", "draft", "args", "message", "comments", "text", "span", "edited_action", "name"]
LEAVES: list[Any] = ["approve", "edit", "respond", "accept", "x", None, 1, True, "review", (0, 1)]
ANSWERS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)


@given(DRAFTS.filter(bool), ANSWERS)
def test_whatever_comes_is_a_decision_about_this_draft_or_an_error_that_says_so(draft: Any, answer: Any) -> None:
    request = a_review(draft)
    try:
        decision = parse(answer, request)
    except (RequestError, StaleRequestError):
        return
    assert decision is not None
    assert decision.args is None
    if decision.type == "edit":
        assert type(decision.draft) is type(draft)
    if decision == approve():
        assert isinstance(answer, dict | list)
    assert validate(decision, request) == decision
