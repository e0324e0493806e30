"""`hitl policy`: is the file in order, what does it say of a call, and who would have to decide."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("cel")

from hitl_graph.cli import main

EXAMPLE = Path(__file__).parents[1] / "examples/policy.toml"
Told = tuple[int, str, str]
GRAPH = """
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from hitl_graph.nodes import ApprovalNode

@tool
def pay(amount: int) -> str:
    '''Pay.'''
    return "paid"

graph = StateGraph(MessagesState).add_node("tools", ApprovalNode([pay])).add_edge(START, "tools").compile()

def is_large(call):
    return call.args["amount"] > 10
"""


@pytest.fixture
def hitl(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*args: str) -> Told:
        capsys.readouterr()
        code = main(["policy", *args])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_files_are_checked(hitl: Callable[..., Told]) -> None:
    code, out, err = hitl("check", str(EXAMPLE))
    assert (code, out) == (0, f"{EXAMPLE}: OK, 13 rules\n")
    assert err == "  It needs Policy.from_file(..., facts={...}) with balance.\n"
    Path("bad.toml").write_text('[[rules]]\ntool = "pay"\noutcome = "ask"\nquorm = 2\n[other]\n')
    code, out, err = hitl("check", "bad.toml", str(EXAMPLE), "none.toml")
    assert (code, out) == (2, f"{EXAMPLE}: OK, 13 rules\n")
    assert err.splitlines()[:2] == [
        "bad.toml:4: rules[0].quorm: is not known here; did you mean quorum?",
        "bad.toml:5: other: is not known here; there are mode, max_denials, rules, permissions",
    ]
    assert err.splitlines()[-1] == "none.toml: the policy cannot be read: No such file or directory"
    code, out, _ = hitl("check", "bad.toml", "--json")
    told = json.loads(out)
    assert (code, told["ok"], len(told["problems"]), told["rules"]) == (2, False, 2, None)


def test_rules_are_held_against_the_tools(hitl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    Path("policy_cli_agent.py").write_text(GRAPH)
    Path("policy.toml").write_text('[[rules]]\ntool = "pya"\noutcome = "deny"\n[permissions]\nask = ["pay"]\n')
    said = "policy.toml:1: Rule('pya', 'deny') matches no tool; did you mean 'pay'?\n"
    assert hitl("check", "policy.toml", "--graph", "policy_cli_agent:graph") == (2, "", said)
    assert hitl("check", "policy.toml", "--tools", "pay, look") == (2, "", said)
    assert hitl("check", "policy.toml", "--tools", "pay,pya")[0] == 0
    assert hitl("check", "policy.toml", "--tools", "pay", "--graph", "x:y")[0] == 2


def test_a_call_is_explained(hitl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("call.json").write_text('{"name": "wire_transfer", "args": {"amount": 20000, "to": "bob"}}')
    code, out, err = hitl("explain", "call.json", "--policy", str(EXAMPLE))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == 'wire_transfer(amount=20000, to="bob")'
    assert lines[1] == f"ASK: more than 10,000 ({EXAMPLE}:29)"
    for said in (
        "role:manager", "2 different people of role:finance", "the requester", "role:security, alone", "is rejected",
        "Re-reads  balance", "Grants    do not count", "args.amount > 10000 is true", "role:lead may decide, too",
        "args.amount <= 10000 is false", "11 rules about other tools.",
    ):  # fmt: skip
        assert said in out, said
    monkeypatch.setattr(
        "sys.stdin", io.StringIO('{"tool_calls": [{"name": "drop_x", "args": {}}, {"name": "odd", "args": {}}]}')
    )
    code, out, _ = hitl("explain", "-", "--policy", str(EXAMPLE), "--user", str(EXAMPLE))
    assert f"DENY: nobody drops tables here (project: {EXAMPLE}:46)" in out
    assert "ASK: no rule matches" in out
    assert "26 rules about other tools; none about this one." in out


def test_scripts_get_an_explanation(hitl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    Path("policy_cli_agent.py").write_text(GRAPH)
    Path("policy.yaml").write_text(
        "rules:\n- {tool: pay, outcome: ask, when: is_large, deadline: 1h}\n- {tool: pay, outcome: allow}\n"
    )
    openai = {"type": "function", "function": {"name": "pay", "arguments": '{"amount": 20}'}}
    anthropic = {"type": "tool_use", "name": "pay", "input": {"amount": 2}}
    Path("calls.json").write_text(json.dumps([openai, anthropic]))
    code, out, _ = hitl("explain", "calls.json", "--policy", "policy.yaml", "--python", "policy_cli_agent", "--json")
    large, small = map(json.loads, out.splitlines())
    assert (code, large["outcome"], small["outcome"]) == (0, "ask", "allow")
    assert [rule["says"] for rule in large["rules"]] == ["ask", "allow"]
    assert large["terms"]["schedule"][0]["then"] == "reject"
    assert small["rules"][0] == {
        "tool": "pay", "outcome": "ask", "source": "policy.yaml:2", "layer": None, "says": None,
        "why": "its predicate is false"
    }  # fmt: skip
    code, out, _ = hitl("explain", "calls.json", "--policy", "policy.yaml")
    assert "is_large is Python; give its module with --python" in out


@pytest.mark.parametrize(
    ("call", "said"),
    [("{", "is not JSON"), ("3", "is no tool call"), ('{"name": "x", "args": []}', "is no tool call"), ("[]",
    "is no tool call")],
)  # fmt: skip
def test_what_is_no_call_is_refused(hitl: Callable[..., Told], call: Any, said: str) -> None:
    Path("call.json").write_text(call)
    code, out, err = hitl("explain", "call.json", "--policy", str(EXAMPLE))
    assert (code, out) == (2, "")
    assert said in err
    assert hitl("explain", "none.json", "--policy", str(EXAMPLE))[0] == 2
    assert hitl("explain", "call.json", "--policy", "none.toml")[0] == 2
    assert hitl("explain", "call.json", "--policy", "none.toml", "--python", "no_such_module")[0] == 2


def test_the_schema_is_printed(hitl: Callable[..., Told]) -> None:
    assert json.loads(hitl("schema")[1])["title"] == "hitl-graph policy"


def test_what_a_tool_says_of_itself_is_explained(hitl: Callable[..., Told]) -> None:
    Path("policy.toml").write_text(
        '[[rules]]\ntool = "mcp__*"\noutcome = "allow"\nhints = { readOnlyHint = true }\n'
        '[[rules]]\ntool = "mcp__*"\noutcome = "deny"\nhints = { destructiveHint = true }\nwhen = "args.all"\n'
    )
    call: dict[str, Any] = {"name": "mcp__files__remove", "args": {"all": True}}
    for metadata, outcome, why in (
        ({"readOnlyHint": True}, "ALLOW", "readOnlyHint=true is true"),
        ({}, "DENY", "destructiveHint=true and args.all is true"),
        ({"destructiveHint": False}, "ASK", "destructiveHint=true and args.all is false"),
    ):
        Path("call.json").write_text(json.dumps(call | {"metadata": metadata}))
        code, out, _ = hitl("explain", "call.json", "--policy", "policy.toml")
        assert code == 0
        assert outcome in out
        assert why in " ".join(out.split())
    Path("call.json").write_text(json.dumps(call | {"metadata": "read-only"}))
    assert hitl("explain", "call.json", "--policy", "policy.toml")[0] == 2
