"""What Claude Desktop and Claude Code do with people, point by point, here. The table is in docs/claude.md."""

import asyncio
import json
import operator
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Command

pytest.importorskip("pathspec")

from hitl_graph.card import card
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.errors import HitlError, InvalidDecisionError
from hitl_graph.grants import Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode, OutputReviewNode, Revision, ask_human_questions
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.worker import Worker

pytestmark = pytest.mark.filterwarnings("error")


class Desk:
    """An agent in a folder: `run` lets its model make calls, and closes the database after that."""

    def __init__(self, path: Path) -> None:
        self.db, self.did = str(path / "agent.db"), list[str]()
        self.policy = Policy()
        self.mode: dict[str, Any] = {}

    def tools(self) -> list[BaseTool]:
        did = self.did

        @tool
        def Bash(command: str) -> str:
            """Run a command."""
            did.append(command)
            return f"ran {command}"

        @tool
        def Edit(file_path: str, text: str) -> str:
            """Write into a file."""
            did.append(f"{file_path}={text}")
            return "written"

        @tool
        def Read(file_path: str) -> str:
            """Read a file."""
            return f"contents of {file_path}"

        Read.metadata = {"read_only": True}
        return [Bash, Edit, Read, ask_human_questions(name="AskUserQuestion")]

    def graph(self, checkpointer: SqliteCheckpointer) -> CompiledStateGraph[Any, Any, Any, Any]:
        def agent(state: MessagesState) -> dict[str, Any]:
            last = state["messages"][-1]
            calls = [] if isinstance(last, ToolMessage) else json.loads(str(last.content))
            return {"messages": [AIMessage("done" if not calls else "", tool_calls=calls)]}

        builder = StateGraph(MessagesState)
        builder.add_node("agent", agent)
        builder.add_node("tools", ApprovalNode(self.tools(), policy=self.policy, graph="code"))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", tools_condition)
        builder.add_edge("tools", "agent")
        return builder.compile(checkpointer=checkpointer)

    def run(self, *calls: tuple[str, dict[str, Any]], thread: str = "t") -> list[Request]:
        """What people are asked then."""
        said = json.dumps([{"name": n, "args": a, "id": f"{thread}-{i}"} for i, (n, a) in enumerate(calls)])
        with SqliteCheckpointer(self.db) as checkpointer:
            config: Any = {"configurable": {"thread_id": thread, **self.mode}}
            self.graph(checkpointer).invoke({"messages": [HumanMessage(said)]}, config)
            return Inbox(checkpointer.ledger).pending(thread_id=thread)

    def decide(self, request: Request, decision: Any, who: str = "alice") -> list[str]:
        """Answer in one process, go on in another; what the model was told."""
        with Ledger.open(self.db) as ledger:
            Inbox(ledger).decide(request.id, decision, reviewer=who)
        with SqliteCheckpointer(self.db) as checkpointer:
            graph = self.graph(checkpointer)
            Worker(graph, checkpointer.ledger).run_once()
            return self.told(graph, request.thread_id)

    @staticmethod
    def told(graph: Any, thread: str) -> list[str]:
        messages = graph.get_state({"configurable": {"thread_id": thread}}).values["messages"]
        return [str(message.content) for message in messages if isinstance(message, ToolMessage)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)  # noqa: PT022 - its databases are closed by whoever opened them


def bash(command: str) -> tuple[str, dict[str, Any]]:
    return "Bash", {"command": command}


# --- 1: allow once, always allow, no with feedback, Esc --------------------------------------------------------------


def test_point_1_allow_once_is_once(desk: Desk) -> None:
    [request] = desk.run(bash("npm test"))
    desk.decide(request, approve())
    assert desk.did == ["npm test"]
    [again] = desk.run(bash("npm test"), thread="u")
    assert again.state == "pending"


def test_point_1_always_allow_is_scoped_and_outlives_the_process(desk: Desk) -> None:
    [request] = desk.run(bash("npm test"))
    desk.decide(request, approve(grant=Grant.of(request, args={"command": "npm test*"})))
    assert desk.run(bash("npm test --all"), thread="u") == []
    [other] = desk.run(bash("npm publish"), thread="v")
    assert desk.did == ["npm test", "npm test --all"]
    assert other.action is not None


def test_point_1_until_the_session_ends_is_a_grant_for_the_thread(desk: Desk) -> None:
    [request] = desk.run(("Edit", {"file_path": "a.py", "text": "1"}))
    desk.decide(request, approve(grant=Grant.of(request, same_thread=True)))
    assert desk.run(("Edit", {"file_path": "b.py", "text": "2"})) == []
    assert len(desk.run(("Edit", {"file_path": "b.py", "text": "2"}), thread="another session")) == 1


def test_point_1_always_can_be_undone_and_says_what_it_let_through(desk: Desk) -> None:
    [request] = desk.run(bash("npm test"))
    desk.decide(request, approve(grant=Grant.of(request)))
    desk.run(bash("rm -rf build"), thread="u")
    with Ledger.open(desk.db) as ledger:
        inbox = Inbox(ledger)
        [given] = inbox.grants()
        assert [use.thread_id for use in inbox.uses(given.id)] == ["u"]
        inbox.revoke(given.id, reviewer="bob", reason="it was too much")
    assert len(desk.run(bash("rm -rf dist"), thread="v")) == 1
    assert desk.did == ["npm test", "rm -rf build"]


def test_point_1_no_with_feedback_that_the_model_sees(desk: Desk) -> None:
    [request] = desk.run(bash("git push --force"))
    [told] = desk.decide(request, reject("open a pull request instead"))
    assert "open a pull request instead" in told
    assert desk.did == []


@pytest.mark.parametrize("nothing", [{}, "", False, [], "escape", {"type": "cancel"}])
def test_point_1_esc_is_no_decision(desk: Desk, nothing: Any) -> None:
    [request] = desk.run(bash("git push"))
    with SqliteCheckpointer(desk.db) as checkpointer:
        config: Any = {"configurable": {"thread_id": "t"}}
        try:
            desk.graph(checkpointer).invoke(Command(resume=nothing), config)
        except HitlError:
            pass  # said clearly
        assert [one.id for one in Inbox(checkpointer.ledger).pending()] == [request.id]
    desk.decide(request, approve())
    assert desk.did == ["git push"]


# --- 2: rules --------------------------------------------------------------------------------------------------------


def said(policy: Policy, name: str, **args: Any) -> str:
    return policy.judge(Call(name, args)).outcome


def test_point_2_deny_before_ask_before_allow() -> None:
    lists = {"allow": ["Bash"], "ask": ["Bash(git push:*)"], "deny": ["Bash(git push --force:*)"]}
    policy = Policy.from_permissions(lists)
    commands = ("git status", "git push", "git push --force origin")
    assert [said(policy, "Bash", command=command) for command in commands] == ["allow", "ask", "deny"]


def test_point_2_specifiers_with_globs() -> None:
    policy = Policy.from_permissions(
        {
            "allow": ["Bash(npm run:*)", "Edit(src/**)", "WebFetch(domain:docs.example.com)", "mcp__github__get_*"],
            "deny": ["Read(./.env)", "mcp__mail"],
        },
        root="/repo",
    )
    assert said(policy, "Bash", command="npm run build") == "allow"
    assert said(policy, "Edit", file_path="/repo/src/a.py") == "allow"
    assert said(policy, "Edit", file_path="/repo/setup.py") == "ask"
    assert said(policy, "WebFetch", url="https://docs.example.com/x") == "allow"
    assert said(policy, "mcp__github__get_issue") == "allow"
    assert said(policy, "mcp__github__create_issue") == "ask"
    assert said(policy, "mcp__mail__send") == "deny"
    assert said(policy, "Read", file_path="src/../.env") == "deny"


@pytest.mark.parametrize(
    "command", ["sudo curl x", "env A=1 curl x", "timeout 5 curl x", "sh -c 'curl x'", "true && curl x", "xargs curl"]
)
def test_point_2_a_deny_sees_through_wrappers_and_an_allow_does_not(command: str) -> None:
    assert said(Policy.from_permissions({"deny": ["Bash(curl:*)"]}), "Bash", command=command) == "deny"
    assert said(Policy.from_permissions({"allow": ["Bash(curl:*)"]}), "Bash", command=command) == "ask"


# --- 3: scopes -------------------------------------------------------------------------------------------------------


def test_point_3_managed_before_project_before_user(tmp_path: Path) -> None:
    managed = tmp_path / "managed.json"
    managed.write_text('{"permissions": {"deny": ["Bash(curl:*)"], "ask": ["Edit"]}}')
    user = tmp_path / "user.json"
    user.write_text('{"permissions": {"allow": ["Bash(curl:*)", "Edit", "Bash(ls:*)"]}}')
    policy = Policy.layered(managed=managed, project=Policy([Rule("Bash", "ask", "args.command == 'ls /'")]), user=user)
    assert said(policy, "Bash", command="curl x") == "deny"
    assert said(policy, "Edit", file_path="a") == "ask"
    assert [said(policy, "Bash", command=command) for command in ("ls /", "ls src")] == ["ask", "allow"]
    assert "managed" in policy.judge(Call("Bash", {"command": "curl x"})).reason


# --- 4: modes --------------------------------------------------------------------------------------------------------


def test_point_4_default_asks_about_what_no_rule_names(desk: Desk) -> None:
    assert len(desk.run(bash("ls"))) == 1


def test_point_4_accept_edits_is_a_rule(desk: Desk) -> None:
    desk.policy = Policy.from_permissions({"allow": ["Edit"], "deny": ["Edit(.git/**)"]})
    [asked] = desk.run(("Edit", {"file_path": "a.py", "text": "1"}), bash("make"))
    assert asked.action is not None
    assert (desk.did, asked.action.name) == (["a.py=1"], "Bash")
    desk.run(("Edit", {"file_path": ".git/config", "text": "2"}), thread="u")
    assert desk.did == ["a.py=1"]


def test_point_4_plan_runs_nothing_that_has_effects(desk: Desk) -> None:
    desk.policy = Policy.from_permissions({"allow": ["Edit", "Read", "Bash"]})
    desk.mode = {"hitl_mode": "plan"}
    assert desk.run(("Edit", {"file_path": "a.py", "text": "1"}), ("Read", {"file_path": "a.py"}), bash("ls")) == []
    with SqliteCheckpointer(desk.db) as checkpointer:
        edit_told, read_told, bash_told = desk.told(desk.graph(checkpointer), "t")
    assert ("plan mode" in edit_told, read_told, "plan mode" in bash_told) == (True, "contents of a.py", True)
    assert desk.did == []


def test_point_4_dont_ask_denies_what_would_prompt(desk: Desk) -> None:
    desk.policy = Policy.from_permissions({"allow": ["Bash(npm test)"]})
    desk.mode = {"hitl_mode": "dont-ask"}
    assert desk.run(bash("npm test"), bash("npm publish")) == []
    assert desk.did == ["npm test"]


def test_point_4_bypass_permissions_leaves_deny_and_ask_in_force(desk: Desk) -> None:
    desk.policy = Policy.from_permissions({"allow": ["*"], "ask": ["Bash(git push:*)"], "deny": ["Bash(rm:*)"]})
    [asked] = desk.run(bash("make"), bash("git push"), bash("sudo rm -rf /"))
    assert asked.action is not None
    assert (desk.did, asked.action.args) == (["make"], {"command": "git push"})


def test_point_4_a_run_cannot_ask_less_than_the_policy(desk: Desk) -> None:
    for mode in ("bypassPermissions", "acceptEdits", "shadow", "auto"):
        desk.mode = {"hitl_mode": mode}
        with pytest.raises(HitlError, match="nothing ran"):
            desk.run(bash("ls"), thread=mode)
    assert desk.did == []


def test_point_4_auto_is_a_predicate_and_its_outage_prompts(desk: Desk) -> None:
    async def is_harmless(call: Call) -> bool:
        if call.args["command"] == "make":
            raise TimeoutError("the classifier does not answer")
        return str(call.args["command"]).startswith("ls")

    desk.policy = Policy([Rule("Bash", "allow", is_harmless), Rule("Bash", "deny", "args.command.contains('rm -rf')")])
    asked = desk.run(bash("ls"), bash("make"), bash("rm -rf /"), bash("git push"))
    assert {str(one.action and one.action.args["command"]) for one in asked} == {"make", "git push"}
    assert desk.did == ["ls"]


def test_point_4_after_three_denials_in_a_row_people_are_asked(desk: Desk) -> None:
    desk.policy = Policy([Rule("Bash", "deny", reason="no shell here")], max_denials=3)
    assert [len(desk.run(bash(f"ls {n}"))) for n in range(3)] == [0, 0, 1]
    with Ledger.open(desk.db) as ledger:
        [request] = Inbox(ledger).pending(kind="escalation")
    assert "Use Read" in desk.decide(request, respond("Use Read"))[-1]
    assert desk.did == []


# --- 5: hooks --------------------------------------------------------------------------------------------------------


def test_point_5_pre_tool_use_allows_denies_and_asks_by_code(desk: Desk) -> None:
    def about(word: str) -> Any:
        return lambda call: word in call.args["command"]

    desk.policy = Policy([Rule("Bash", outcome, about(outcome)) for outcome in ("allow", "ask", "deny")])
    asked = desk.run(bash("allow"), bash("ask"), bash("allow deny"))
    assert [one.action and one.action.args["command"] for one in asked] == ["ask"]
    assert desk.did == ["allow"]


def test_point_5_updated_input_is_an_edit_and_the_model_is_told(desk: Desk) -> None:
    [request] = desk.run(bash("git push --force"))
    [told] = desk.decide(request, edit({"command": "git push"}))
    assert desk.did == ["git push"]
    assert "git push" in told


# --- 6: the SDK's canUseTool -----------------------------------------------------------------------------------------


def test_point_6_the_process_may_exit_and_another_one_goes_on(desk: Desk) -> None:
    """`Desk` opens and closes the database for each step: nothing of the first run is left when the answer comes."""
    [request] = desk.run(bash("npm test"), bash("npm publish"))[:1]
    desk.decide(request, approve())
    assert len(desk.did) == 1  # the other one still waits; nobody asks about this one again
    with Ledger.open(desk.db) as ledger:
        [left] = Inbox(ledger).pending()
    desk.decide(left, reject("not today"))
    assert len(desk.did) == 1


def test_point_6_suggestions_become_a_permission_that_is_checked(desk: Desk) -> None:
    [request] = desk.run(bash("npm test"))
    for wider in (Grant(tool="*"), Grant(tool="Edit"), Grant(args={"command": "git *"})):
        with Ledger.open(desk.db) as ledger, pytest.raises(InvalidDecisionError):
            Inbox(ledger).decide(request.id, approve(grant=wider), reviewer="alice")
    desk.decide(request, approve(grant=Grant.of(request, same_args=True, expires_in=timedelta(days=1))))
    assert desk.run(bash("npm test"), thread="u") == []


# --- 7: AskUserQuestion ----------------------------------------------------------------------------------------------

QUESTIONS = [
    {
        "question": "Which library shall format dates?",
        "header": "Library",
        "multiSelect": False,
        "options": [
            {"label": "date-fns", "description": "small, functions"},
            {"label": "Luxon", "description": "time zones"},
        ],
    },
    {
        "question": "Which features do you want?",
        "header": "Features",
        "multiSelect": True,
        "options": [{"label": "export"}, {"label": "search"}, {"label": "archive"}],
    },
]


def test_point_7_several_questions_with_options_several_choices_and_free_text(desk: Desk) -> None:
    [request] = desk.run(("AskUserQuestion", {"questions": QUESTIONS}))
    assert request.kind == "question"
    chosen: Any = {"Library": "Temporal, it is built in now", "Features": ["export", "archive"]}
    assert [json.loads(told) for told in desk.decide(request, respond(chosen))] == [chosen]


def test_point_7_silence_is_no_answer(desk: Desk) -> None:
    [request] = desk.run(("AskUserQuestion", {"questions": QUESTIONS}))
    silences: list[Any] = [{}, {"Library": ""}, {"Library": "Luxon"}, {"Library": "Luxon", "Features": []}, None]
    for silence in silences:
        with Ledger.open(desk.db) as ledger, pytest.raises((HitlError, ValueError)):
            Inbox(ledger).decide(request.id, respond(silence), reviewer="alice")
    with Ledger.open(desk.db) as ledger:
        assert Inbox(ledger).get(request.id).state == "pending"


# --- 8: plan approval ------------------------------------------------------------------------------------------------


class Planned(MessagesState, total=False):
    plan: str
    approved: str
    reviews: Annotated[list[Revision], operator.add]


def test_point_8_a_plan_is_approved_edited_or_sent_back_before_anything_runs(tmp_path: Path, desk: Desk) -> None:
    plans = iter(["rewrite it all", "rename one function"])

    def planner(state: Planned) -> dict[str, Any]:
        return {"plan": next(plans)}

    def act(state: Planned) -> dict[str, Any]:
        done = isinstance(state["messages"][-1], ToolMessage)
        calls = [] if done else [{"name": "Bash", "args": {"command": state["approved"]}, "id": "1"}]
        return {"messages": [AIMessage("done", tool_calls=calls)]}

    review = OutputReviewNode("plan", revise="planner", deliver="act", delivered="approved")
    builder = StateGraph(Planned)
    builder.add_node("planner", planner)
    builder.add_node("review", review, destinations=review.destinations)
    builder.add_node("act", act)
    builder.add_node("tools", ApprovalNode(desk.tools(), policy=Policy([Rule("Bash", "allow")])))
    builder.add_edge(START, "planner")
    builder.add_edge("planner", "review")
    builder.add_conditional_edges("act", tools_condition, {"tools": "tools", END: END})
    builder.add_edge("tools", "act")
    with SqliteCheckpointer(desk.db) as checkpointer:
        graph = builder.compile(checkpointer=checkpointer)
        graph.invoke({"messages": [HumanMessage("tidy up")]}, {"configurable": {"thread_id": "t"}})
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        [first] = inbox.pending(kind="review")
        inbox.decide(first.id, respond("smaller, please"), reviewer="alice")
        worker.run_once()
        [second] = inbox.pending(kind="review")
        assert (second.draft, desk.did) == ("rename one function", [])
        inbox.decide(second.id, edit("rename one function, and its tests"), reviewer="alice")
        worker.run_once()
    assert desk.did == ["rename one function, and its tests"]


# --- 9: risk ---------------------------------------------------------------------------------------------------------


def test_point_9_the_risk_is_on_the_card_and_can_be_looked_for(desk: Desk) -> None:
    desk.policy = Policy([Rule("Bash", "ask", risk="high", reason="it may not come back"), Rule("Edit", "ask")])
    desk.run(bash("rm -rf build"), ("Edit", {"file_path": "a", "text": "b"}))
    with Ledger.open(desk.db) as ledger:
        inbox = Inbox(ledger)
        [request] = inbox.pending(risk="high")
        shown = card(request, inbox.standing(request.id), now=ledger.clock(), reviewer=None)
    assert (shown.risk, "it may not come back" in shown.reason) == ("high", True)


# --- 10: elicitation of MCP ------------------------------------------------------------------------------------------


def test_point_10_an_mcp_client_asks_its_human_and_only_accept_decides(desk: Desk) -> None:
    pytest.importorskip("mcp")
    from mcp.types import ElicitResult

    from tests.mcp_people import Human, Office, accept, over_http

    async def play(office: Office, url: str, request: Request) -> list[str]:
        outcomes = []
        closed, declined = ElicitResult(action="cancel"), ElicitResult(action="decline")
        answers = (closed, declined, accept(answer="wait"), accept(answer="reject"))
        async with over_http(url, "alice's", human := Human()) as session:
            for answer in answers:
                human.will(answer)
                found = await session.call_tool("decide", {"request_id": request.id})
                assert human.asked[0].mode == "form"
                kinds = {field["type"] for field in human.asked[0].requestedSchema["properties"].values()}
                assert kinds <= {"string", "number", "integer", "boolean"}  # flat primitives
                assert found.structuredContent is not None
                outcomes.append(found.structuredContent["outcome"])
                assert office.inbox.get(request.id).state == ("decided" if answer is answers[-1] else "pending")
        return outcomes

    desk.run(bash("git push"))
    office = Office(desk.db)
    with office.checkpointer, office.serving() as url:
        [request] = office.inbox.pending()
        assert asyncio.run(play(office, url, request)) == ["cancelled", "declined", "waiting", "decided"]


def test_point_10_url_mode_opens_the_page_and_takes_nothing_from_the_client(desk: Desk) -> None:
    pytest.importorskip("mcp")
    from tests.mcp_people import Human, Office, accept, over_http

    async def play(url: str, request: Request) -> Any:
        human = Human(accept(answer="approve"))
        async with over_http(url, "alice's", human) as session:
            found = await session.call_tool("decide", {"request_id": request.id})
            return human.asked[0], found.structuredContent

    desk.run(bash("git push"))
    office = Office(desk.db)
    how: Any = {"mode": "url", "url": "http://127.0.0.1:1/inbox", "linger": timedelta(0)}
    with office.checkpointer, office.serving(**how) as url:
        [request] = office.inbox.pending()
        asked, came = asyncio.run(play(url, request))
        assert (asked.mode, request.id in asked.url) == ("url", True)
        assert (came["outcome"], came["recorded"], office.untouched(request)) == ("opened", False, True)
