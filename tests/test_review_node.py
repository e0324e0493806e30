"""`OutputReviewNode`: what the four answers do, to drafts of every kind."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel, Field, model_validator
from typing_extensions import TypedDict

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.effects import idempotency_key
from hitl_graph.errors import DraftError, InvalidDecisionError, PolicyError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Comment, Finding, approve, edit, reject, respond
from hitl_graph.nodes import OutputReviewNode
from hitl_graph.nodes.revisions import MARK, released
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.reviews import Colour, Desk, Drafts, writing, writing_messages

pytestmark = pytest.mark.both_databases


@pytest.fixture
def checkpointer(db_path: str) -> Iterator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened
        assert opened.ledger.verify_audit().ok


# --- a draft under a key of the state ------------------------------------------------------------------------------


def test_approve_delivers_what_was_shown_and_goes_on(checkpointer: Checkpointer, colour: Colour) -> None:
    sent: list[str] = []
    node = OutputReviewNode("draft", revise="writer", deliver="publish", delivery=sent.append)
    desk = Desk(writing(["one"], node), checkpointer, colour)
    desk.start()
    request = desk.asked
    assert (request.kind, request.draft, request.allowed) == ("review", "one", ("approve", "edit", "reject", "respond"))
    assert request.review is not None
    assert (request.review.revision, request.review.previous, request.review.diff) == (1, None, None)
    assert sent == []
    assert desk.answer(approve("fine")) == "finished"
    assert sent == ["one"]
    state = desk.state
    assert (state["delivered"], state["went_on"], state["draft"]) == ("one", True, "one")
    [entry] = state["reviews"]
    assert (entry["outcome"], entry["by"], entry["message"], entry["request_id"]) == (
        "delivered",
        "alice",
        "fine",
        request.id,
    )
    [ran] = desk.ledger.executed("t")
    assert (ran["tool"], ran["request_id"], ran["state"]) == ("deliver", request.id, "done")
    assert desk.inbox.get(request.id).state == "delivered"


def test_edit_delivers_the_persons_version(checkpointer: Checkpointer, colour: Colour) -> None:
    sent: list[str] = []
    desk = Desk(
        writing(["one"], OutputReviewNode("draft", revise="writer", delivery=sent.append)), checkpointer, colour
    )
    desk.start()
    assert desk.answer(edit("mine")) == "finished"
    assert sent == ["mine"]
    assert (desk.state["draft"], desk.state["delivered"]) == ("mine", "mine")
    assert [(entry["draft"], entry["delivered"]) for entry in desk.state["reviews"]] == [("one", "mine")]


def test_reject_ends_with_the_reason_and_nothing_is_delivered(checkpointer: Checkpointer, colour: Colour) -> None:
    sent: list[str] = []
    node = OutputReviewNode("draft", revise="writer", deliver="publish", delivery=sent.append)
    desk = Desk(writing(["one"], node), checkpointer, colour)
    desk.start()
    assert desk.answer(reject("not now")) == "finished"
    assert sent == []
    assert "went_on" not in desk.state
    assert desk.state["delivered"] is None
    assert [(entry["outcome"], entry["message"]) for entry in desk.state["reviews"]] == [("rejected", "not now")]
    assert desk.ledger.executed("t") == []


def test_respond_sends_it_back_and_the_next_card_tells_all(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = Desk(writing(["one two", "one three"], OutputReviewNode("draft", revise="writer")), checkpointer, colour)
    desk.start()
    comment = Comment(text="which?", span=(4, 7))
    assert desk.answer(respond("make it clear", comments=[comment])) == "paused"
    [entry] = desk.state["reviews"]
    assert entry["outcome"] == "revise"
    assert entry["comments"] == [{"text": "which?", "span": [4, 7], "excerpt": "two"}]
    assert "make it clear" in entry["feedback"]
    assert "characters 4-7 (two): which?" in entry["feedback"]
    review = desk.asked.review
    assert review is not None
    assert (review.revision, review.previous, review.feedback, review.comments, review.sent_back_by) == (
        2, "one two", "make it clear", (comment,), "alice",
    )  # fmt: skip
    assert review.diff is not None
    assert review.diff.splitlines()[1:] == ["-one two", "+one three"]
    assert desk.answer(approve()) == "finished"
    assert desk.state["delivered"] == "one three"
    assert desk.outcomes == ["revise", "delivered"]


def test_after_max_revisions_people_are_asked_for_a_final_word(checkpointer: Checkpointer, colour: Colour) -> None:
    node = OutputReviewNode("draft", revise="writer", max_revisions=2)
    desk = Desk(writing(["one", "two", "three"], node), checkpointer, colour)
    desk.start()
    for _ in range(2):
        assert "respond" in desk.asked.allowed
        assert desk.answer(respond("again")) == "paused"
    assert desk.asked.allowed == ("approve", "edit", "reject")
    assert "final word" in desk.asked.reason
    with pytest.raises(InvalidDecisionError, match="respond is not offered"):
        desk.decide(respond("again"))
    assert desk.answer(approve()) == "finished"
    assert desk.state["delivered"] == "three"


def test_a_rule_that_only_takes_feedback_still_gets_a_final_word(checkpointer: Checkpointer) -> None:
    policy = Policy([Rule("review", "ask", allowed=("respond",))])
    node = OutputReviewNode("draft", revise="writer", policy=policy, max_revisions=0)
    desk = Desk(writing(["one"], node), checkpointer, "sync")
    desk.start()
    assert desk.asked.allowed == ("approve", "edit", "reject")


def test_the_next_draft_of_a_thread_begins_at_revision_one(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = Desk(writing(["a", "b", "same", "same"], OutputReviewNode("draft", revise="writer")), checkpointer, colour)
    desk.start()
    desk.answer(respond("no"))
    desk.answer(approve())
    for _ in range(2):  # the same text again is another draft: it is asked about and delivered by itself
        desk.start()
        assert desk.asked.review is not None
        assert (desk.asked.review.revision, desk.asked.review.previous) == (1, None)
        desk.answer(approve())
    assert desk.outcomes == ["revise", "delivered", "delivered", "delivered"]
    assert len(desk.ledger.executed("t")) == 3


# --- drafts that are more than a text ------------------------------------------------------------------------------


class Line(BaseModel):
    sku: str
    count: int = Field(gt=0)


class Quote(BaseModel):
    customer: str
    lines: list[Line]
    discount: float = 0

    @model_validator(mode="after")
    def _modest(self) -> "Quote":
        if self.discount > 0.5:
            raise ValueError("no discount is above one half")
        return self


class Quoting(Drafts):
    draft: Quote  # type: ignore[misc]  # LangGraph restores only types that the state names


QUOTE = Quote(customer="Acme", lines=[Line(sku="A1", count=2)])


def test_a_pydantic_draft_is_edited_within_its_schema(checkpointer: Checkpointer, colour: Colour) -> None:
    sent: list[Any] = []
    desk = Desk(
        writing([QUOTE], OutputReviewNode("draft", revise="writer", delivery=sent.append), Quoting),
        checkpointer,
        colour,
    )
    desk.start()
    assert desk.asked.draft == QUOTE.model_dump(mode="json")
    for wrong, problem in (
        ({"customer": "Acme"}, "lines"),
        ({"customer": "Acme", "lines": [{"sku": "A1", "count": 0}]}, "count"),
        ("text", "JSON object"),
        ({"customer": "Acme", "lines": [], "rebate": 1}, "rebate"),
    ):
        with pytest.raises(InvalidDecisionError, match=problem):
            desk.decide(edit(wrong))
    with pytest.raises(InvalidDecisionError, match=r"no field 'lines.1'"):
        desk.decide(respond("x", comments=[Comment(text="y", field="lines.1")]))
    desk.answer(edit({"customer": "Acme Ltd", "lines": [{"sku": "A1", "count": "3"}]}))
    assert sent == [Quote(customer="Acme Ltd", lines=[Line(sku="A1", count=3)])]


def test_a_draft_that_comes_back_from_the_database_as_something_else_is_asked_about_anew(
    checkpointer: Checkpointer, colour: Colour
) -> None:
    """The state does not name the type, so LangGraph gives back a dict, and here one with other numbers."""
    sent: list[Any] = []
    desk = Desk(
        writing([QUOTE], OutputReviewNode("draft", revise="writer", delivery=sent.append)), checkpointer, colour
    )
    desk.start()
    first = desk.asked
    assert desk.answer(approve()) == "paused"
    assert sent == []
    assert desk.asked.digest != first.digest
    assert desk.answer(approve()) == "finished"
    assert sent == [desk.state["draft"]]


def test_an_edit_that_breaks_a_rule_that_no_schema_tells_is_not_delivered(
    checkpointer: Checkpointer, colour: Colour
) -> None:
    sent: list[Any] = []
    desk = Desk(
        writing([QUOTE], OutputReviewNode("draft", revise="writer", delivery=sent.append), Quoting),
        checkpointer,
        colour,
    )
    desk.start()
    desk.answer(edit(QUOTE.model_dump(mode="json") | {"discount": 0.9}))
    assert sent == []
    [entry] = desk.state["reviews"]
    assert (entry["outcome"], entry["by"]) == ("blocked", "checks")
    assert "no discount is above one half" in entry["message"]


def test_files_and_patches(checkpointer: Checkpointer, colour: Colour) -> None:
    first = [{"path": "a.py", "content": "x = 1\ny = 2\n"}, {"path": "b.py", "content": "pass\n"}]
    second = [{"path": "a.py", "content": "x = 1\ny = 3\n"}, {"path": "c.py", "content": "pass\n"}]
    node = OutputReviewNode("draft", revise="writer", schema=list[dict[str, str]])
    desk = Desk(writing([first, second], node), checkpointer, colour)
    desk.start()
    with pytest.raises(InvalidDecisionError, match=r"no file 'd.py'; its files are: a.py, b.py"):
        desk.decide(respond(comments=[Comment(text="?", file="d.py")]))
    with pytest.raises(InvalidDecisionError, match=r"no line 9 in a.py"):
        desk.decide(respond(comments=[Comment(text="?", file="a.py", line=9)]))
    desk.answer(respond(comments=[Comment(text="why 2?", file="a.py", line=2)]))
    assert desk.state["reviews"][0]["comments"] == [{"text": "why 2?", "file": "a.py", "line": 2, "excerpt": "y = 2"}]
    assert desk.asked.review is not None
    diff = str(desk.asked.review.diff)
    assert "-y = 2\n+y = 3" in diff
    assert "--- b.py\n+++ /dev/null" in diff
    assert "--- /dev/null\n+++ c.py" in diff
    with pytest.raises(InvalidDecisionError, match="JSON list"):
        desk.decide(edit({"path": "a.py"}))
    desk.answer(edit([{"path": "a.py", "content": "x = 5"}]))
    assert desk.state["delivered"] == [{"path": "a.py", "content": "x = 5"}]


def test_only_some_fields_may_be_edited(checkpointer: Checkpointer) -> None:
    policy = Policy([Rule("review", "ask", editable=("title",))])
    node = OutputReviewNode("draft", revise="writer", policy=policy)
    desk = Desk(writing([{"title": "a", "body": "b"}], node), checkpointer, "sync")
    desk.start()
    with pytest.raises(InvalidDecisionError, match="body may not be edited; only title"):
        desk.decide(edit({"title": "a", "body": "c"}))
    desk.answer(edit({"title": "z", "body": "b"}))
    assert desk.state["delivered"] == {"title": "z", "body": "b"}


# --- a draft that is the last message ------------------------------------------------------------------------------


def test_messages_are_all_that_a_chat_needs(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = Desk(writing_messages(["long", "short", "next"], OutputReviewNode(revise="writer")), checkpointer, colour)
    desk.start()
    desk.answer(respond("shorter", comments=[Comment(text="what?", span=(0, 4))]))
    human, draft, feedback, second = desk.state["messages"]
    assert (human.content, draft.content, second.content) == ("write", "long", "short")
    assert isinstance(feedback, HumanMessage)
    assert "shorter" in feedback.text
    assert "characters 0-4 (long): what?" in feedback.text
    assert desk.asked.review is not None
    assert (desk.asked.review.revision, desk.asked.review.previous, desk.asked.review.feedback) == (
        2,
        "long",
        "shorter",
    )
    assert [message.content for message in released(desk.state["messages"])] == ["write", "short"]
    desk.answer(edit("brief"))
    assert [message.content for message in desk.state["messages"]] == ["write", "long", feedback.content, "brief"]
    assert desk.state["messages"][-1].id == second.id
    assert [message.content for message in released(desk.state["messages"])] == ["write", "brief"]
    desk.go({"messages": [HumanMessage("more")]})
    assert desk.asked.review is not None
    assert desk.asked.review.revision == 1


def test_a_rejected_message_does_not_stay_as_the_answer(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = Desk(writing_messages(["secret"], OutputReviewNode(revise="writer")), checkpointer, colour)
    desk.start()
    desk.answer(reject("it is secret"))
    last = desk.state["messages"][-1]
    assert last.content == "(This answer was not released.)"
    assert last.additional_kwargs[MARK]["message"] == "it is secret"


def test_blocks_that_people_cannot_see_as_text_are_shown_as_json(checkpointer: Checkpointer) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}

    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage([{"type": "text", "text": "see"}, image])]}

    builder = StateGraph(MessagesState)
    builder.add_node("writer", write)
    builder.add_node("review", OutputReviewNode(revise="writer"))
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "review")
    desk = Desk(builder, checkpointer, "sync")
    desk.start()
    assert desk.asked.draft == [{"type": "text", "text": "see"}, image]


# --- what can be wrong in a graph ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "problem"),
    [(None, "no 'draft' to review"), (3, "a text, a pydantic model"), (object(), "as JSON"), ("\ud800", "as JSON")],
    ids=["none", "number", "object", "surrogate"],
)
def test_what_is_no_draft(draft: Any, problem: str) -> None:
    with pytest.raises(DraftError, match=problem):
        OutputReviewNode("draft", revise="writer").place.read({"draft": draft, "reviews": []})


def test_where_feedback_has_no_place_the_error_says_what_to_declare(checkpointer: Checkpointer) -> None:
    class Forgetful(TypedDict):
        draft: str

    builder = StateGraph(Forgetful)
    builder.add_node("writer", lambda state: {"draft": "x"})
    builder.add_node("review", OutputReviewNode("draft", revise="writer"))
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "review")
    graph = builder.compile(checkpointer=checkpointer)
    with pytest.raises(DraftError, match=r"reviews: Annotated\[list\[Revision\], operator.add\]"):
        graph.invoke({"draft": ""}, {"configurable": {"thread_id": "1"}})


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([HumanMessage("hi", id="1")], "no message of the model"),
        ([AIMessage("", id="1", tool_calls=[{"name": "f", "args": {}, "id": "1"}])], "calls tools"),
        ([AIMessage("hi")], "have no ids"),
    ],
)
def test_what_is_no_draft_among_messages(messages: list[Any], problem: str) -> None:
    with pytest.raises(DraftError, match=problem):
        OutputReviewNode(revise="writer").place.read({"messages": messages})


def test_limits_and_rules_are_checked_when_the_node_is_made() -> None:
    with pytest.raises(PolicyError, match="max_revisions"):
        OutputReviewNode(revise="writer", max_revisions=-1)
    with pytest.raises(PolicyError, match="did you mean 'review'"):
        OutputReviewNode(revise="writer", policy=Policy([Rule("reviev", "ask")]))


# --- checks and policy ---------------------------------------------------------------------------------------------


def test_checks_send_back_by_themselves_and_then_ask(checkpointer: Checkpointer, colour: Colour) -> None:
    policy = Policy([Rule("review", "allow")])

    def no_todo(draft: str) -> Finding | None:
        return Finding(text="there is a TODO", span=(0, 4), then="revise") if "TODO" in draft else None

    node = OutputReviewNode("draft", revise="writer", policy=policy, checks=[no_todo], max_automatic=2)
    desk = Desk(writing(["TODO 1", "TODO 2", "TODO 3"], node), checkpointer, colour)
    desk.start()
    assert desk.outcomes == ["revise", "revise"]
    assert [entry["by"] for entry in desk.state["reviews"]] == ["checks", "checks"]
    assert desk.state["reviews"][0]["comments"][0]["excerpt"] == "TODO"
    request = desk.asked
    assert request.reason == "no_todo: there is a TODO"
    assert request.review is not None
    assert (request.review.revision, request.review.previous, request.review.sent_back_by) == (3, "TODO 2", "checks")
    assert "respond" in request.allowed  # no person has sent it back yet
    desk.answer(approve())
    assert desk.state["delivered"] == "TODO 3"


def test_a_check_can_demand_a_review_or_block(checkpointer: Checkpointer, colour: Colour) -> None:
    async def amounts(draft: str) -> str | None:
        await asyncio.sleep(0)
        return "it names an amount" if "EUR" in draft else None

    def secrets(draft: str) -> list[Any]:
        return [Finding(text="a key", then="block")] if "sk-" in draft else [None, True]

    policy = Policy([Rule("review", "allow")])
    node = OutputReviewNode("draft", revise="writer", policy=policy, checks=[amounts, secrets])
    desk = Desk(writing(["fine", "EUR 5", "sk-123 EUR 5"], node), checkpointer, colour)
    desk.start()
    assert desk.inbox.pending() == []
    desk.start()
    assert desk.asked.reason == "amounts: it names an amount"
    desk.answer(edit("EUR 5 and sk-1"))  # a person's version gets no further than the writer's
    desk.start()
    assert [(entry["outcome"], entry["by"]) for entry in desk.state["reviews"]] == [
        ("delivered", "policy"),
        ("blocked", "checks"),
        ("blocked", "checks"),
    ]
    assert desk.inbox.pending() == []


def test_pydantic_checks_send_back_with_the_field(checkpointer: Checkpointer, colour: Colour) -> None:
    drafts = [{"customer": "Acme", "lines": [{"sku": "A", "count": 0}]}, {"customer": "Acme", "lines": []}]
    desk = Desk(writing(drafts, OutputReviewNode("draft", revise="writer", checks=[Quote])), checkpointer, colour)
    desk.start()
    [entry] = desk.state["reviews"]
    assert entry["comments"][0]["field"] == "lines.0.count"
    assert "lines.0.count (0): Input should be greater than 0" in entry["feedback"]
    assert desk.asked.draft == drafts[1]


def test_deny_blocks_without_asking(checkpointer: Checkpointer, colour: Colour) -> None:
    policy = Policy([Rule("review", "ask"), Rule("review", "deny", when=lambda call: "x" in call.args["draft"])])
    desk = Desk(writing(["x", "y"], OutputReviewNode("draft", revise="writer", policy=policy)), checkpointer, colour)
    desk.start()
    assert desk.inbox.pending() == []
    desk.start()
    desk.answer(edit("y and x"))  # nor does an edit reach what the policy denies
    assert [(entry["outcome"], entry["by"]) for entry in desk.state["reviews"]] == [("blocked", "policy")] * 2
    assert desk.ledger.executed("t") == []


def test_a_policy_sees_draft_revision_findings_and_state(checkpointer: Checkpointer, colour: Colour) -> None:
    seen: list[Any] = []

    def look(call: Any) -> bool:
        findings = [finding.text for finding in call.metadata["findings"]]
        seen.append((call.name, call.args, call.metadata["revision"], findings, call.state["draft"]))
        return True

    policy = Policy([Rule("answer", "allow", when=look)])
    note = Finding(text="n", then="note")
    node = OutputReviewNode("draft", revise="writer", policy=policy, checks=[lambda draft: note], name="answer")
    desk = Desk(writing(["one"], node), checkpointer, colour)
    desk.start()
    assert seen == [("answer", {"draft": "one"}, 1, ["n"], "one")]
    assert desk.outcomes == ["delivered"]


# --- elsewhere -----------------------------------------------------------------------------------------------------


def test_delivery_knows_its_idempotency_key_and_its_result_is_kept(checkpointer: Checkpointer, colour: Colour) -> None:
    keys: list[str] = []

    def send(draft: str) -> dict[str, str]:
        keys.append(idempotency_key())
        return {"id": "m-1"}

    async def asend(draft: str) -> dict[str, str]:
        await asyncio.sleep(0)
        return send(draft)

    for number, delivery in enumerate((send, asend)):
        node = OutputReviewNode("draft", revise="writer", delivery=delivery)
        desk = Desk(writing(["one"], node), checkpointer, colour, f"t{number}")
        desk.start()
        desk.answer(approve())
        assert desk.state["reviews"][0]["result"] == {"id": "m-1"}
    assert len(set(keys)) == 2


def test_beside_a_foreign_checkpointer(tmp_path: Any, colour: Colour) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        sent: list[str] = []
        node = OutputReviewNode("draft", revise="writer", delivery=sent.append, ledger=ledger)
        graph: Any = writing(["one", "two"], node).compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({}, config)
        inbox, worker = Inbox(ledger), Worker(graph, ledger)
        for decision in (respond("again"), approve()):
            [request] = inbox.pending()
            inbox.decide(request.id, decision, reviewer="alice")
            _ = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
        assert sent == ["two"]
        assert [request.state for request in ledger.history("t")] == ["delivered", "delivered"]
        assert ledger.verify_audit().ok


def test_in_a_subgraph_with_pydantic_state(checkpointer: Checkpointer, colour: Colour) -> None:
    import operator

    class Inner(BaseModel):
        draft: str = ""
        reviews: Annotated[list[dict[str, Any]], operator.add] = []
        delivered: str | None = None

    inner = StateGraph(Inner)
    inner.add_node("writer", lambda state: {"draft": f"draft {len(state.reviews)}"})
    inner.add_node("review", OutputReviewNode("draft", revise="writer"))
    inner.add_edge(START, "writer")
    inner.add_edge("writer", "review")
    outer = StateGraph(Inner)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    desk = Desk(outer, checkpointer, colour)
    desk.go({"draft": "-"})
    desk.answer(respond("again"))
    desk.answer(approve())
    assert desk.state["delivered"] == "draft 1"


def test_two_reviews_in_a_row_ask_twice(checkpointer: Checkpointer, colour: Colour) -> None:
    def build(draft: Literal["draft"]) -> Any:
        builder = writing(["one"], OutputReviewNode(draft, revise="writer", deliver="legal"))
        builder.add_node("legal", OutputReviewNode(draft, revise="writer", deliver=END))
        return builder

    desk = Desk(build("draft"), checkpointer, colour)
    desk.start()
    assert desk.answer(approve(), "marketing") == "paused"
    assert desk.answer(approve(), "legal") == "finished"
    assert [entry["by"] for entry in desk.state["reviews"]] == ["marketing", "legal"]


def test_the_drawing_has_the_arrows(checkpointer: Checkpointer) -> None:
    desk = Desk(writing(["one"], OutputReviewNode("draft", revise="writer", deliver="publish")), checkpointer, "sync")
    edges = {(edge.source, edge.target) for edge in desk.graph.get_graph().edges}
    assert {("review", "writer"), ("review", "publish"), ("review", "__end__")} <= edges


def test_an_answer_straight_through_langgraph(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = Desk(writing(["one", "two"], OutputReviewNode("draft", revise="writer")), checkpointer, colour)
    desk.start()
    own = desk.asked.interrupt_id
    comments = [{"text": "which?", "line": 1}]
    desk.go(Command(resume={own: {"type": "respond", "message": "again", "comments": comments}}))
    desk.go(Command(resume={desk.asked.interrupt_id: {"type": "edit", "draft": "three"}}))
    assert desk.state["delivered"] == "three"
    assert [entry["by"] for entry in desk.state["reviews"]] == ["anonymous", "anonymous"]
