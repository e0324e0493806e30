"""`hitl policy`: is the file in order, and what does it say of a call?"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from hitl_graph.cli import views
from hitl_graph.cli.app import USAGE, Command, Failure, Json, app, emit, note
from hitl_graph.cli.working import load_graph
from hitl_graph.errors import PolicyError
from hitl_graph.policy import Call, Policy, Rule, Verdict
from hitl_graph.policy.format import schema as schema_of_files
from hitl_graph.policy.rules import Considered
from hitl_graph.terms import Stage, Terms

__all__ = ["Names", "Python", "policy"]

policy = typer.Typer(help="Rules in a file: are they in order, and what do they say of a call?", no_args_is_help=True)
app.add_typer(policy, name="policy")

Python = Annotated[
    str | None, typer.Option("--python", metavar="MODULE", help="Where the facts and predicates are that it names.")
]


@policy.command(cls=Command)
def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="policy.toml, YAML, or Claude's settings.json.")
    ],
    graph: Annotated[
        str | None, typer.Option("--graph", metavar="MODULE:GRAPH", help="Also: does each rule name a tool of this?")
    ] = None,
    tools: Annotated[
        str | None, typer.Option("--tools", metavar="A,B,C", help="Also: does each rule name one of these tools?")
    ] = None,
    python: Python = None,
    as_json: Json = False,
) -> None:
    """Read policy files. Exit code 2, with every mistake and its line, if one of them is not in order."""
    if graph is not None and tools is not None:
        raise Failure(USAGE, "--graph and --tools say the same; give one of them")
    known = None if tools is None else [name.strip() for name in tools.split(",") if name.strip()]
    known = _tools_of(graph) if graph is not None else known
    failed = False
    for file in files:
        facts, predicates = Names(python), Names(python)
        try:
            read = Policy.from_file(file, facts=facts, predicates=predicates)
            missing = _unmatched(read, known)
            problems = list(missing)
        except PolicyError as exc:
            read, problems = None, str(exc).split("\n")
        failed = failed or bool(problems)
        if as_json:
            emit({"file": file, "ok": not problems, "rules": len(read.rules) if read else None, "problems": problems})
            continue
        for problem in problems:
            print(views.visible(problem), file=sys.stderr)
        if read is not None and not problems:
            print(f"{views.visible(file)}: OK, {_count(read.rules)}")
            for kind, names in (("facts", facts), ("predicates", predicates)):
                if names.missing:
                    note(f"  It needs Policy.from_file(..., {kind}={{...}}) with {', '.join(sorted(names.missing))}.")
    if failed:
        raise typer.Exit(USAGE)


@policy.command(cls=Command)
def explain(
    call: Annotated[str, typer.Argument(metavar="CALL.json", help='{"name": ..., "args": {...}}; - for stdin.')],
    file: Annotated[str, typer.Option("--policy", metavar="FILE", help="The policy; that of the project in layers.")],
    managed: Annotated[str | None, typer.Option("--managed", metavar="FILE", help="A layer above it.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="FILE", help="A layer below it.")] = None,
    python: Python = None,
    every: Annotated[bool, typer.Option("--all", help="Also the rules that are about other tools.")] = False,
    as_json: Json = False,
) -> None:
    """What the policy says of a call and why, who would have to decide, and by when.

    CALL.json is a tool call as a message has it, or a message with some. What the tool says of itself goes beside it:
    "metadata": {"readOnlyHint": true}.
    """
    names = Names(python)
    try:
        if managed is None and user is None:
            read = Policy.from_file(file, facts=names, predicates=names)
        else:
            read = Policy.layered(managed=managed, project=file, user=user, facts=names, predicates=names)
    except PolicyError as exc:
        raise Failure(USAGE, str(exc)) from exc
    out = views.console()
    for number, one in enumerate(_calls(call)):
        verdict, found = read.judge(one), read.considered(one)
        if as_json:
            emit(_as_json(one, verdict, found, read))
            continue
        views.show(out, ([""] if number else []) + list(_told(one, verdict, found, read, every)))


@policy.command(cls=Command)
def schema() -> None:
    """The JSON Schema of a policy file, for editors."""
    print(json.dumps(schema_of_files(), indent=2))


class Names(Mapping[str, Any]):
    """Facts and predicates of a Python module; any others stand for what is not known on a command line."""

    def __init__(self, module: str | None) -> None:
        self.missing: set[str] = set()
        sys.path.insert(0, "") if module and "" not in sys.path else None
        try:
            self._module = None if module is None else import_module(module)
        except Exception as exc:
            raise Failure(USAGE, f"--python {module} cannot be imported: {type(exc).__name__}: {exc}") from exc

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        found = getattr(self._module, name, None)
        if callable(found):
            return found
        self.missing.add(name)
        return _NotHere(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _NotHere:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, _: Call) -> Any:
        raise LookupError(f"{self.name} is Python; give its module with --python")


def _unmatched(read: Policy, known: Sequence[str] | None) -> Iterator[str]:
    if known is None:
        return
    for rule in read.rules:
        try:
            Policy([rule]).check(known)
        except PolicyError as exc:
            yield f"{rule.source}: {exc}"


def _tools_of(spec: str) -> list[str]:
    graph = load_graph(spec)
    names = set[str]()
    for pregel in (graph, *(inner for _, inner in graph.get_subgraphs(recurse=True))):
        for name, node in getattr(pregel, "nodes", {}).items():  # a remote graph has none
            bound = getattr(node, "bound", None)
            if (tools := getattr(bound, "tools_by_name", None)) is not None:
                names.update(tools)
            elif hasattr(bound, "policy"):
                names.add(name)
    if not names:
        raise Failure(USAGE, f"{spec} has no node that runs tools; name them with --tools")
    return sorted(names)


def _calls(path: str) -> list[Call]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        data = json.loads(text)
    except OSError as exc:
        raise Failure(USAGE, f"{path} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise Failure(USAGE, f"{path} is not JSON: {exc}") from exc
    found = data.get("tool_calls") if isinstance(data, dict) and "tool_calls" in data else data
    calls = [_call(one) for one in (found if isinstance(found, list) else [found])]
    if not calls or None in calls:
        raise Failure(USAGE, f'{path} is no tool call; write {{"name": "pay", "args": {{"amount": 3}}}}')
    return [call for call in calls if call is not None]


def _call(data: Any) -> Call | None:
    """A call as LangChain, OpenAI and Anthropic write it."""
    if not isinstance(data, dict):
        return None
    inner = data["function"] if isinstance(data.get("function"), dict) else data
    args: Any = next((inner[key] for key in ("args", "arguments", "input") if key in inner), {})
    if isinstance(args, str):
        try:
            args = json.loads(args)
        except ValueError:
            return None
    name, metadata = inner.get("name"), data.get("metadata") or {}
    if not isinstance(name, str) or not isinstance(args, dict) or not isinstance(metadata, dict):
        return None
    return Call(name, args, metadata=metadata)


def _told(call: Call, verdict: Verdict, found: list[Considered], read: Policy, every: bool) -> Iterator[Text | str]:
    out = views.console()
    yield views.call(call.name, dict(call.args))
    yield Text(f"{verdict.outcome.upper()}: {views.visible(verdict.reason)}", style=f"bold {_COLOURS[verdict.outcome]}")
    if verdict.rules is not None:
        yield f"The mode is {read.mode}; by the rules alone it is {verdict.rules.outcome}: {verdict.rules.reason}"
    if verdict.outcome == "ask":
        yield ""
        yield from views.pairs(_people(verdict))
    shown = [one for one in found if every or one.rule.matches(call.name)]
    others = [one.rule for one in found if not (every or one.rule.matches(call.name))]
    if shown:
        yield ""
        cells = [
            (
                one.verdict.outcome if one.verdict else "-",
                one.rule.place or "-",
                one.rule.outcome,
                one.rule.tool,
                views.visible(one.why),
            )
            for one in shown
        ]
        yield views.table(out, ("SAYS", "WHERE", "RULE", "TOOL", "WHY"), cells, whole=(0, 2), main=4)
    if others:
        yield f"{_count(others)} about other tools{'' if shown else '; none about this one'}."


_COLOURS = {"allow": "green", "ask": "yellow", "deny": "red"}


def _people(verdict: Verdict) -> Iterator[tuple[str, str]]:
    terms = verdict.terms or Terms()
    for number, stage in enumerate(terms.stages):
        yield "Decides" if not number else "then", _stage(stage)
    if verdict.exclude:
        yield "not", f"the {' nor the '.join(verdict.exclude)}"
    if terms.veto:
        yield "Rejects", f"{' or '.join(terms.veto)}, alone"
    if terms.rejects > 1:
        yield "Rejects", f"{terms.rejects} different people"
    if terms.delegates != ("*",):
        yield "Delegates", f"to {' or '.join(terms.delegates)} only"
    now = datetime.now(UTC)
    for turn in verdict.deadline.schedule(now) if verdict.deadline else ():
        what = {
            "remind": "is reminded", "escalate": f"{' or '.join(turn.to)} may decide, too",
            "reject": "is rejected", "approve": "is APPROVED",
        }[turn.then]  # fmt: skip
        yield f"in {views.age(now - (turn.at - now), now)}", f"{views.clock(turn.at)}  {what}, if nobody has decided"
    if not verdict.deadline:
        yield "By", "no deadline; it waits"
    yield "Answers", ", ".join(verdict.allowed)
    if verdict.editable is not None:
        yield "Edits", ", ".join(verdict.editable) or "none"
    if verdict.facts:
        yield "Re-reads", ", ".join(verdict.facts)
    if not verdict.grants:
        yield "Grants", "do not count"
    if verdict.risk is not None:
        yield "Risk", verdict.risk


def _stage(stage: Stage) -> str:
    who = " or ".join(stage.reviewers) or "anybody"
    if stage.quorum == 1:
        return who
    roles = ", each as another of these" if stage.distinct_roles else ""
    return f"{stage.quorum} different people of {who}{roles}" if stage.reviewers else f"{stage.quorum} different people"


def _count(rules: Iterable[Rule]) -> str:
    """How many there are as people wrote them: a permission may come to several."""
    count = len({(rule.place, rule.reason, rule.outcome, rule.tool if rule.reason is None else "") for rule in rules})
    return f"{count} rule{'' if count == 1 else 's'}"


def _as_json(call: Call, verdict: Verdict, found: list[Considered], read: Policy) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": call.name, "args": dict(call.args), "outcome": verdict.outcome, "reason": verdict.reason,
        "mode": read.mode,
    }  # fmt: skip
    if verdict.outcome == "ask":
        terms = verdict.terms or Terms()
        turns = verdict.deadline.schedule(datetime.now(UTC)) if verdict.deadline else ()
        row |= {
            "terms": terms.model_copy(update={"schedule": turns}).model_dump(mode="json"),
            "exclude": list(verdict.exclude), "allowed": list(verdict.allowed),
            "editable": None if verdict.editable is None else list(verdict.editable),
            "facts": list(verdict.facts), "grants": verdict.grants, "risk": verdict.risk,
        }  # fmt: skip
    return row | {
        "rules": [_rule(one.rule) | {"says": one.verdict and one.verdict.outcome, "why": one.why} for one in found]
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {"tool": rule.tool, "outcome": rule.outcome, "source": rule.source, "layer": rule.layer}
