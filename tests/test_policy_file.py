"""A policy as a file: says what the same in Python says, or every mistake with its line."""

import json
import pickle
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cel")
pytest.importorskip("yaml")

from hitl_graph.errors import PolicyError, PolicyFileError
from hitl_graph.policy import Call, Deadline, Escalate, Policy, Rule, Stage
from hitl_graph.policy.conditions import Condition
from hitl_graph.policy.deadline import Earliest
from hitl_graph.policy.format import schema
from hitl_graph.policy.positions import Path as Place
from hitl_graph.policy.positions import lines_of

HERE = Path(__file__).parents[1]
RISKS = [None, "low", "medium", "high"]
STRENGTH = {"allow": 0, "ask": 1, "deny": 2}


def balance(call: Call) -> int:
    return 7


def is_new(call: Call) -> bool:
    return bool(call.args["customer"] == "new")


FULL = """
[[rules]]
tool = "search_*"
outcome = "allow"

[[rules]]
tool = "wire"
outcome = "ask"
when = "args.amount > 10000 && !args.to.endsWith('@corp.example')"
reason = "a lot"
allowed = ["approve", "reject"]
editable = ["amount"]
reviewers = ["role:finance", "alice"]
quorum = 2
distinct_roles = true
exclude = ["requester", "author"]
veto = ["role:security"]
rejects = 2
delegates = ["group:desk"]
deadline = "1d 4h 30m"
on_deadline = "approve"
facts = ["balance"]
grants = false
risk = "high"

[[rules]]
tool = "refund"
outcome = "ask"
when = "is_new"
stages = [["role:manager"], { reviewers = ["role:finance"], quorum = 2 }]
[rules.deadline]
after = "4h"
then = "escalate"
to = ["role:lead"]
remind = ["1h", "90m"]
escalate = [{ after = "2h", to = ["role:deputy"] }]
"""
SAME: list[Rule] = [
    Rule("search_*", "allow", source="policy.toml:2"),
    Rule(
        "wire", "ask", Condition("args.amount > 10000 && !args.to.endsWith('@corp.example')"), "a lot",
        allowed=("approve", "reject"), editable=("amount",), reviewers=["role:finance", "alice"], quorum=2,
        distinct_roles=True, exclude=["requester", "author"], veto=["role:security"], rejects=2,
        delegates=["group:desk"],
        deadline=timedelta(hours=28, minutes=30), on_deadline="approve", facts={"balance": balance}, grants=False,
        risk="high", source="policy.toml:6",
    ),
    Rule(
        "refund", "ask", is_new, stages=[Stage(reviewers=("role:manager",)), Stage(reviewers=("role:finance",),
        quorum=2)],
        deadline=Deadline(
            timedelta(hours=4), "escalate", (timedelta(hours=1), timedelta(minutes=90)),
            (Escalate(timedelta(hours=2), ("role:deputy",)),), ("role:lead",),
        ),
        source="policy.toml:26",
    ),
]  # fmt: skip
GIVEN: dict[str, Any] = {"facts": {"balance": balance}, "predicates": {"is_new": is_new}}


def problems(text: str, name: str = "policy.toml", **given: Any) -> list[str]:
    with pytest.raises(PolicyFileError) as caught:
        Policy.load(text, name, **given)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    return list(caught.value.problems)


# --- what it says --------------------------------------------------------------------------------------------------


def test_a_file_is_the_policy_that_python_would_have() -> None:
    assert list(Policy.load(FULL, **GIVEN).rules) == SAME


def test_yaml_says_the_same_as_toml(tmp_path: Path) -> None:
    import yaml

    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(tomllib.loads(FULL)))
    read = Policy.from_file(file, **GIVEN)
    assert [rule.verdict("ask", "") for rule in read.rules] == [rule.verdict("ask", "") for rule in SAME]
    assert read.rules[0].source == f"{file}:2"


def test_the_reason_says_where_the_rule_stands() -> None:
    policy = Policy.load(FULL, **GIVEN)
    call = Call("wire", {"amount": 20000, "to": "bob@example.com"})
    assert policy.judge(call).reason == "a lot (policy.toml:6)"
    assert policy.judge(Call("search_web", {})).reason == "rule 'search_*' says allow (policy.toml:2)"


def test_the_example_is_in_order() -> None:
    policy = Policy.from_file(HERE / "examples/policy.toml", facts={"balance": balance})
    for call, outcome in (
        (Call("send_email", {"to": "a@corp.example"}), "allow"),
        (Call("send_email", {"to": "a@example.com"}), "ask"),
        (Call("send_email", {}), "ask"),
        (Call("drop_users", {}), "deny"),
        (Call("Bash", {"command": "git status"}), "allow"),
        (Call("Bash", {"command": "git status; git push"}), "deny"),
    ):
        assert policy.judge(call).outcome == outcome
    large = policy.judge(Call("wire_transfer", {"amount": 10001}))
    assert large.terms is not None
    assert sorted(stage.quorum for stage in large.terms.stages) == [1, 2]
    assert (large.exclude, large.grants, list(large.facts)) == (("requester",), False, ["balance"])


# --- what is wrong with it -----------------------------------------------------------------------------------------

MISTAKES = """
mode = "fast"
max_denials = 0
[[rules]]
tool = "send"
outcome = "asked"
quorm = 2
[[rules]]
tool = "a"
outcome = "ask"
quorum = "2"
reviewers = []
[[rules]]
outcome = "ask"
stages = [["role:"],
  { quorum = 0 }, "x"]
[rules.deadline]
after = "4 parsecs"
remnd = ["1h"]
[permissions]
deni = []
[other]
"""
IMPOSSIBLE = """
[[rules]]
tool = "a"
outcome = "ask"
when = '''
args.x >
'''
[[rules]]
tool = "a"
outcome = "allow"
quorum = 2
[[rules]]
tool = "a"
outcome = "ask"
facts = ["balanc"]
when = "isnew"
[[rules]]
tool = "a"
outcome = "ask"
reviewers = ["role:a"]
quorum = 3
distinct_roles = true
[[rules]]
tool = "a"
outcome = "ask"
deadline = { after = "1h", remind = ["2h"] }
[[rules]]
tool = "a"
outcome = "ask"
on_deadline = "approve"
when = "amount > 3"
[permissions]
deny = ["Bash(rm:*)",
  "foo(x)"]
"""


def test_every_mistake_has_its_line() -> None:
    assert problems(MISTAKES) == [
        "policy.toml:2: mode: should be 'default', 'plan', 'dont-ask' or 'shadow', not \"fast\"",
        "policy.toml:3: max_denials: should be greater than or equal to 1, not 0",
        "policy.toml:6: rules[0].outcome: should be 'allow', 'ask' or 'deny', not \"asked\"",
        "policy.toml:7: rules[0].quorm: is not known here; did you mean quorum?",
        'policy.toml:11: rules[1].quorum: should be a valid integer, not "2"',
        "policy.toml:12: rules[1].reviewers: is empty; leave it out or give it a value",
        "policy.toml:13: rules[2]: has no tool",
        "policy.toml:15: rules[2].stages[0][0]: 'role:': there is no name after 'role:'",
        "policy.toml:16: rules[2].stages[1].quorum: should be greater than or equal to 1, not 0",
        'policy.toml:16: rules[2].stages[2]: should be a valid list, not "x"',
        'policy.toml:18: rules[2].deadline.after: a duration is a text such as "4h", "2d 30m" or "90s" (w, d, h, m, s)',
        "policy.toml:19: rules[2].deadline.remnd: is not known here; did you mean remind?",
        "policy.toml:21: permissions.deni: is not known here; did you mean deny?",
        "policy.toml:22: other: is not known here; there are mode, max_denials, rules, permissions",
    ]


def test_rules_that_make_no_sense_have_their_line_too() -> None:
    found = problems(IMPOSSIBLE, **GIVEN)
    assert [line.split(": ")[:2] for line in found] == [
        ["policy.toml:5", "rules[0].when"],
        ["policy.toml:8", "rules[1]"],
        ["policy.toml:15", "rules[2].facts[0]"],
        ["policy.toml:16", "rules[2].when"],
        ["policy.toml:20", "rules[3].reviewers"],
        ["policy.toml:26", "rules[4].deadline"],
        ["policy.toml:31", "rules[5].when"],
        ["policy.toml:34", "permissions.deny[1]"],
    ]
    assert "line 2, column 1: Syntax error" in found[0]
    assert "did you mean 'balance'?" in found[2]
    assert "did you mean 'is_new'?" in found[3]
    assert "an argument is args.amount" in found[6]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("policy.toml", "", ":1: there are no rules"),
        ("policy.toml", "rules = 3", ":1: rules: should be a valid list"),
        ("policy.toml", "\n\nmode = ", ":3: Invalid value"),
        ("policy.toml", "max_denials = 1\nmax_denials = 2", ":2: Cannot overwrite"),
        ("policy.toml", "a=" + "[" * 9000, "nested"),
        ("policy.ini", "", "is called .toml"),
        ("policy.yaml", "- a", ":1: it is no table"),
        ("policy.yaml", "\ta: 1", ":1: found character"),
        ("policy.yaml", "rules: []\nrules: []", ":2: rules is there twice"),
        ("policy.yaml", "rules: &a [*a]", ":1: an alias"),
        ("policy.yaml", "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
            f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefg", "bcdefgh",
            strict=True)
        ), "an alias"),
        ("policy.yaml", "rules: !!python/object/apply:os.system [ls]", "the tag"),
        ("policy.yaml", "mode: \x00", "special characters"),
        ("policy.yaml", "mode: no\n", ':1: mode: should be'),
        ("policy.yaml", "rules:\n- tool: a\n  outcome: ask\n  reviewers:\n", ":4: rules[0].reviewers: has no value"),
        ("policy.yaml", "rules:\n- tool: a\n  outcome: ask\n  deadline: 22:30\n",
        ":4: rules[0].deadline: a duration"),
        ("policy.yaml", "rules:\n- <<: {tool: a}\n  outcome: ask\n", ":2: rules[0].<<: is not known here"),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(name: str, text: str, said: str) -> None:
    assert said in "\n".join(problems(text, name))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"\n# \xe9")
    for name, said in (("none.toml", "No such file"), ("", "directory"), ("latin.toml", ":2: the policy is not text")):
        with pytest.raises(PolicyFileError, match=said):
            Policy.from_file(tmp_path / name)


# --- lines ---------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b-c", "d e", 'f"', "g.h", "ü"])
VALUES = st.recursive(
    st.sampled_from(['"x]"', "'#y'", '"""\nz"\\""""', "'''a'\n#'''", "1", "-2.5e3", "true", "1979-05-27 07:32:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3),
    lambda inner: st.tuples(
        st.dictionaries(KEYS, VALUES, max_size=2),
        st.dictionaries(KEYS, inner | st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=5,
)


class Writer:
    """TOML of a tree whose leaves are TOML already, in many lines, and where each thing came to stand."""

    def __init__(self, gap: str) -> None:
        self.text, self.lines, self.gap = "", dict[Place, int](), gap

    def note(self, path: Place) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def value(self, path: Place, value: Any) -> None:
        self.note(path)
        if isinstance(value, list):
            self.text += "["
            for index, item in enumerate(value):
                self.text += self.gap
                self.value((*path, index), item)
                self.text += ", "
            self.text += self.gap + "]"
        elif isinstance(value, dict):
            self.text += "{"
            for number, (key, item) in enumerate(value.items()):
                self.text += (", " if number else "") + quoted(key) + " = "
                self.value((*path, key), item)
            self.text += "}"
        else:
            self.text += value

    def table(self, path: Place, table: Any) -> None:
        values, tables = table if isinstance(table, tuple) else (table, {})
        for key, value in values.items():
            self.text += self.gap.rstrip(" ") + f"  {quoted(key)} ="
            self.value((*path, key), value)
            self.text += " # [x]\n"
        for key, inner in tables.items():
            if key in values:
                continue
            for index, one in enumerate(inner if isinstance(inner, list) else [inner]):
                here = (*path, key, index) if isinstance(inner, list) else (*path, key)
                header = ".".join(quoted(step) for step in here if isinstance(step, str))
                self.note((*path, key))
                self.note(here)
                self.text += f"[[ {header} ]]\n" if isinstance(inner, list) else f"[{header}]\n"
                self.table(here, one)


def quoted(key: str) -> str:
    return key if key in ("a", "b-c") else json.dumps(key)


@settings(max_examples=150)
@given(TABLES, st.sampled_from(["", " ", "\n", "# ],}\n", "\n\n  "]))
def test_every_value_of_toml_is_found_on_its_line(table: Any, gap: str) -> None:
    writer = Writer(gap)
    writer.table((), table)
    tomllib.loads(writer.text)
    assert lines_of(writer.text, "toml") == writer.lines


# --- conditions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "outcome"),
    [({"amount": 11}, "deny"), ({"amount": 10.5}, "deny"), ({"amount": 3}, "allow"), ({}, "ask"), ({"amount": "11"},
    "ask"),
     ({"amount": True}, "ask"), ({"amount": None}, "ask"), ({"amount": object()}, "ask")],
)  # fmt: skip
def test_a_condition_that_cannot_be_evaluated_means_ask(args: dict[str, Any], outcome: str) -> None:
    policy = Policy([Rule("*", "allow"), Rule("pay", "deny", when="args.amount > 10")])
    assert policy.judge(Call("pay", args)).outcome == outcome


def test_a_condition_sees_name_and_metadata() -> None:
    policy = Policy([Rule("*", "allow", when="name.startsWith('get_') && metadata.reads")])
    assert policy.judge(Call("get_x", {}, metadata={"reads": True})).outcome == "allow"
    assert policy.judge(Call("get_x", {}, metadata={"reads": 1})).outcome == "ask"
    assert policy.judge(Call("set_x", {"odd": object()}, metadata={"reads": True})).outcome == "ask"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("args.amount >", "column 14: Syntax error"),
        ("amount > 3", "an argument is args.amount"),
        ("argz.amount > 3", "did you mean args"),
        ("args.to.endswith('x')", "did you mean endsWith"),
        ("open('/etc/passwd')", "there is no function open"),
        ("", "Syntax error"),
    ],
)
def test_a_condition_that_makes_no_sense_is_an_error(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said) as caught:
        Rule("pay", "ask", when=text)
    assert str(caught.value).startswith("Rule('pay', 'ask'): when= ")


def test_conditions_are_values() -> None:
    one = Condition("args.items.exists(x, x.price > 3)")
    assert pickle.loads(pickle.dumps(one)) == one
    assert one(Call("buy", {"items": [{"price": 2}, {"price": 4}]})) is True


# --- layers --------------------------------------------------------------------------------------------------------

RULES = st.lists(
    st.builds(
        lambda outcome, more: Rule("pay", outcome, **(more if outcome == "ask" else {})),
        st.sampled_from(["allow", "ask", "deny"]),
        st.sampled_from(
            [
                {},
                {"reviewers": ["role:a"]},
                {"reviewers": ["role:b"], "quorum": 2, "grants": False, "risk": "high"},
                {"allowed": ["approve"], "risk": "medium"},
                {"editable": ["x"], "veto": ["role:c"], "exclude": ["author"]},
                {"deadline": timedelta(hours=1), "on_deadline": "approve"},
                {"deadline": timedelta(hours=2), "reviewers": ["role:b"]},
                {"deadline": Deadline(timedelta(hours=3), escalate=(Escalate(timedelta(hours=1), ("role:z",)),))},
                {"deadline": Deadline(timedelta(hours=3), "escalate", to=("role:z",))},
            ]
        ),
    ),
    max_size=3,
)


@given(RULES, RULES, RULES)
def test_a_layer_below_never_loosens_one_above(managed: list[Rule], project: list[Rule], user: list[Rule]) -> None:
    call = Call("pay", {})
    alone = Policy(managed).judge(call)
    both = Policy.layered(managed=Policy(managed), project=Policy(project), user=Policy(user)).judge(call)
    if not managed:
        return
    assert STRENGTH[both.outcome] >= STRENGTH[alone.outcome]
    if both.outcome == alone.outcome == "ask":
        assert set(both.allowed) <= {*alone.allowed, "reject"}
        assert not both.grants or alone.grants
        assert RISKS.index(both.risk) >= RISKS.index(alone.risk)
        assert set(alone.exclude) <= set(both.exclude)
        terms = both.terms
        for stage in alone.terms.stages if alone.terms else ():
            assert terms is not None
            assert any(
                (other.reviewers == stage.reviewers or not stage.reviewers) and other.quorum >= stage.quorum
                for other in terms.stages
            ) or (not stage.reviewers and sum(other.quorum for other in terms.stages) >= stage.quorum)
        assert not isinstance(alone.deadline, Earliest)
        assert not isinstance(both.deadline, Earliest)
        chain = {name for step in (alone.deadline.escalate if alone.deadline else ()) for name in step.to}
        chain |= set(alone.deadline.to if alone.deadline else ())
        if both.deadline:
            assert {name for step in both.deadline.escalate for name in step.to} | set(both.deadline.to) <= chain
            assert both.deadline.then != "approve" or (alone.deadline and alone.deadline.then == "approve")


def test_silence_and_others_below_decide_nothing_that_a_layer_above_asks_about() -> None:
    lenient = Policy.load(
        '[[rules]]\ntool="pay"\noutcome="ask"\ndeadline="1h"\non_deadline="approve"\n'
        '[[rules]]\ntool="pay"\noutcome="allow"\n'
        '[[rules]]\ntool="look"\noutcome="allow"\n',
        "user.toml",
    )
    policy = Policy.layered(managed=Policy([Rule("pay", "ask", reason="ours")]), user=lenient)
    verdict = policy.judge(Call("pay", {}))
    assert (verdict.outcome, verdict.reason, verdict.deadline) == ("ask", "ours (managed)", None)
    assert policy.judge(Call("look", {})).reason == "rule 'look' says allow (user: user.toml:9)"


def test_layers_speak_of_tools_that_there_are_not_the_project_does_not() -> None:
    other = Policy([Rule("other", "deny")])
    Policy.layered(managed=other, user=other).check(["pay"])
    with pytest.raises(PolicyError, match="matches no tool"):
        Policy.layered(managed=other, project=other).check(["pay"])


def test_a_layer_that_is_there_but_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    project = Policy([Rule("pay", "ask")])
    assert len(Policy.layered(managed=tmp_path / "none.toml", project=project).rules) == 1
    (tmp_path / "dangling.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "empty.toml").touch()
    for name in ("dangling", "folder", "empty"):
        with pytest.raises(PolicyFileError, match=f"{name}.toml"):
            Policy.layered(project=project, managed=tmp_path / f"{name}.toml")
        with pytest.raises(PolicyFileError, match=f"{name}.toml"):
            Policy.layered(project=project, user=tmp_path / f"{name}.toml")
    with pytest.raises(PolicyFileError, match="No such file"):
        Policy.layered(project=tmp_path / "none.toml")
    with pytest.raises(PolicyError, match="at least one"):
        Policy.layered()


def test_a_mode_below_can_only_be_stricter() -> None:
    from hitl_graph.policy.layers import _mode

    stricter: list[tuple[str, str]] = [("default", "plan"), ("default", "dont-ask"), ("shadow", "plan")]
    for above, here in stricter:
        assert _mode("user", above, here) == here
    for same in ("plan", "shadow", "dont-ask"):
        assert _mode("user", same, same) == same
    assert _mode("user", "plan", "default") == "plan"
    for above, here in (("default", "shadow"), ("plan", "shadow"), ("plan", "dont-ask")):
        with pytest.raises(PolicyError, match="stricter"):
            _mode("user", above, here)


# --- editors -------------------------------------------------------------------------------------------------------


def test_the_schema_in_the_documents_is_up_to_date() -> None:
    """`hitl policy schema > docs/policy.schema.json` makes it so."""
    assert json.loads((HERE / "docs/policy.schema.json").read_text()) == schema()


def test_the_schema_accepts_what_is_read_and_refuses_what_is_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    for good in (FULL, (HERE / "examples/policy.toml").read_text()):
        assert validator.is_valid(tomllib.loads(good))
    for bad in ('rules = [{tool="a"}]', 'rules = [{tool="a", outcome="ask", quorm=1}]', "mode = 'x'",
    "permission = {}",
                'rules = [{tool="a", outcome="ask", deadline="4 hours"}]'):  # fmt: skip
        assert not validator.is_valid(tomllib.loads(bad)), bad
        assert problems(bad)
