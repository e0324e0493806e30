"""A policy as a file: rules in TOML or YAML, or the permissions of Claude Code's `settings.json`.

Everything that is wrong with a file is told at once, each with its line. What is not understood is never passed over.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from hitl_graph.errors import PolicyError, PolicyFileError
from hitl_graph.policy import format as form
from hitl_graph.policy.deadline import Deadline, Escalate
from hitl_graph.policy.hours import Hours
from hitl_graph.policy.permissions import rules_of
from hitl_graph.policy.positions import Path as Place
from hitl_graph.policy.reading import NotReadableError, Source, read
from hitl_graph.policy.rules import Rule
from hitl_graph.policy.verdict import Fact, Outcome, Predicate
from hitl_graph.terms import Stage

__all__ = ["from_file", "from_permissions", "load"]

T = TypeVar("T")

_LISTS: tuple[Outcome, ...] = ("allow", "ask", "deny")
_SETTINGS = {"plan": "plan", "dontAsk": "dont-ask", "default": None}  # the modes that are never less strict than ours
_WORD = re.compile(r"[A-Za-z_]\w*")


def from_file(
    path: str | PathLike[str], facts: Mapping[str, Fact], predicates: Mapping[str, Predicate]
) -> dict[str, Any]:
    """What the policy of a file is made of."""
    name = os.fspath(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise PolicyFileError([f"{name}: the policy cannot be read: {exc.strerror or exc}"]) from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise PolicyFileError([f"{name}:{line}: the policy is not text in UTF-8"]) from exc
    return load(text, name, facts, predicates)


def load(text: str, name: str, facts: Mapping[str, Fact], predicates: Mapping[str, Predicate]) -> dict[str, Any]:
    """What the policy of a text is made of."""
    try:
        source = read(text, name)
    except NotReadableError as exc:
        raise PolicyFileError([f"{name}{f':{exc.line}' if exc.line else ''}: {exc.why}"]) from exc
    if name.lower().endswith(".json"):
        return _settings(source)
    loaded = _Loading(source, facts, predicates)
    made = loaded.policy()
    if loaded.problems:
        raise PolicyFileError([said for _, said in sorted(loaded.problems)])
    return made


def from_permissions(
    permissions: Mapping[str, Any] | str | PathLike[str], root: str | PathLike[str] | None
) -> dict[str, Any]:
    """What the policy of lists of permissions is made of."""
    here = os.path.abspath(os.getcwd() if root is None else root)
    if isinstance(permissions, str | PathLike):
        name = os.fspath(permissions)
        if not name.lower().endswith(".json"):
            raise PolicyFileError([f"{name}: permissions are lists, or a settings.json"])
        try:
            return _settings(read(Path(permissions).read_text("utf-8-sig"), name), here)
        except OSError as exc:
            raise PolicyFileError([f"{name}: it cannot be read: {exc.strerror or exc}"]) from exc
        except NotReadableError as exc:
            raise PolicyFileError([f"{name}:{exc.line or 1}: {exc.why}"]) from exc
    inner = permissions.get("permissions")
    if inner is not None:
        return _settings(Source("settings", dict(permissions), {}), here)
    if strangers := sorted(set(permissions) - set(_LISTS)):
        raise PolicyError(f"permissions are lists called allow, ask and deny, not {', '.join(map(repr, strangers))}")
    return {"rules": list(_listed(permissions, here, _nowhere, optional=False))}


def _nowhere(outcome: str, index: int) -> None:
    """Lists in Python have no file."""


def _listed(
    lists: Mapping[str, Any], root: str, source: Callable[[str, int], str | None], optional: bool
) -> Iterator[Rule]:
    for outcome in _LISTS:
        entries = lists.get(outcome, ())
        if not isinstance(entries, list | tuple):
            raise PolicyError(f"permissions: {outcome} is a list of texts, not {entries!r:.80}")
        for index, entry in enumerate(entries):
            yield from rules_of(entry, outcome, root=root, source=source(outcome, index), optional=optional)


def _settings(source: Source, root: str | None = None) -> dict[str, Any]:
    """The permissions of a `settings.json`. The rest is Claude Code's; a mode that asks less is not taken."""
    data = source.data
    lists = data.get("permissions") if isinstance(data, dict) else None
    if not isinstance(lists, dict):
        raise PolicyFileError(
            [f"{source.at(())}: there are no permissions; a .json policy is a settings.json with some"]
        )
    problems, rules = list[str](), list[Rule]()
    for key in lists:
        if key not in _LISTS and (close := difflib.get_close_matches(key.lower(), _LISTS, 1)):
            problems.append(f"{source.at(('permissions', key))}: permissions.{key}: did you mean {close[0]}?")
    for outcome in _LISTS:
        entries = lists.get(outcome, [])
        if not isinstance(entries, list):
            problems.append(f"{source.at(('permissions', outcome))}: permissions.{outcome} is no list")
            continue
        for index, entry in enumerate(entries):
            at = source.at(("permissions", outcome, index))
            try:
                rules += rules_of(entry, outcome, root=root or os.getcwd(), source=at, optional=True)
            except PolicyError as exc:
                problems.append(f"{at}: permissions.{outcome}[{index}]: {exc}")
    if problems:
        raise PolicyFileError(problems)
    mode = _SETTINGS.get(lists.get("defaultMode", "default"))
    return {"rules": rules} | ({} if mode is None else {"mode": mode})


class _Loading:
    """One file on its way to a policy, and what is wrong with it so far."""

    def __init__(self, source: Source, facts: Mapping[str, Fact], predicates: Mapping[str, Predicate]) -> None:
        self.source, self.facts, self.predicates = source, facts, predicates
        self.problems: list[tuple[int, str]] = []

    def wrong(self, place: Place, what: str) -> None:
        line = self.source.line(place)
        where = f"{_shown(place)}: " if place else ""
        self.problems.append((line, f"{self.source.name}:{line}: {where}{what}"))

    def policy(self) -> dict[str, Any]:
        data = self.source.data
        if not isinstance(data, dict) or not data.keys() - {"$schema"}:
            self.wrong(
                (), "there are no rules; write [[rules]] with tool and outcome" if not data else "it is no table"
            )
            return {}
        self._check_empty(data, ())
        try:
            document = form.PolicyDocument.model_validate(data)
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                self._told(cast("dict[str, Any]", error))
            return {}
        if self.problems:
            return {}
        rules = [rule for index, table in enumerate(document.rules) if (rule := self._rule(table, ("rules", index)))]
        rules += self._permissions(document.permissions)
        settings = {"mode": document.mode, "max_denials": document.max_denials}
        return {"rules": rules, **{name: value for name, value in settings.items() if value is not None}}

    def _rule(self, table: form.RuleTable, place: Place) -> Rule | None:
        given: dict[str, Any] = {
            name: getattr(table, name)
            for name in table.model_fields_set - {"when", "hints", "stages", "deadline", "facts"}
        }
        before = len(self.problems)
        if table.when is not None:
            given["when"] = self._when(table.when, (*place, "when"))
        if table.hints is not None:
            given["hints"] = table.hints.model_dump(exclude_none=True)
        if table.stages is not None:
            given["stages"] = [_stage(stage) for stage in table.stages]
        if isinstance(table.deadline, form.DeadlineTable):
            given["deadline"] = self._deadline(table.deadline, (*place, "deadline"))
        elif table.deadline is not None:
            given["deadline"] = table.deadline
        if table.facts is not None:
            given["facts"] = self._facts(table.facts, (*place, "facts"))
        if len(self.problems) > before:
            return None
        return self._tried(place, lambda: Rule(**given, source=self.source.at(place)))

    def _when(self, text: str, place: Place) -> Predicate | str | None:
        if _WORD.fullmatch(text) and text not in ("true", "false"):
            if text in self.predicates:
                return self.predicates[text]
            self.wrong(place, f"no predicate {text!r} was given; {_known('predicates=', self.predicates, text)}")
            return None
        return self._tried(place, lambda: cast("Predicate", Rule("*", "allow", text).when))

    def _facts(self, names: list[str], place: Place) -> dict[str, Fact]:
        for index, name in enumerate(names):
            if name not in self.facts:
                self.wrong((*place, index), f"no fact {name!r} was given; {_known('facts=', self.facts, name)}")
        return {name: self.facts[name] for name in names if name in self.facts}

    def _deadline(self, table: form.DeadlineTable, place: Place) -> Deadline | None:
        def make() -> Deadline:
            steps = tuple(Escalate(step.after, tuple(step.to)) for step in table.escalate)
            return Deadline(
                table.after, table.then, tuple(table.remind), steps, tuple(table.to or ()), hours=_hours(table)
            )

        return self._tried(place, make)

    def _permissions(self, table: form.PermissionsTable | None) -> list[Rule]:
        rules = list[Rule]()
        for outcome in _LISTS if table else ():
            for index, entry in enumerate(cast("list[str]", getattr(table, outcome))):
                place = ("permissions", outcome, index)
                rules += self._tried(place, partial(self._entry, entry, outcome, place)) or []
        return rules

    def _entry(self, entry: str, outcome: Outcome, place: Place) -> list[Rule]:
        return list(rules_of(entry, outcome, root=os.getcwd(), source=self.source.at(place), optional=False))

    def _tried(self, place: Place, make: Callable[[], T]) -> T | None:
        """What is made; None if that fails, which is told with the option that it is about, if it names one."""
        try:
            return make()
        except ValueError as exc:
            what = re.sub(r"\A(Rule\(.*?\)|Deadline|Escalate): ", "", str(exc), count=1)
            what = re.sub(r"\A(\w+= (?=')|it: Value error, )", "", what)
            named = next((n for n in re.findall(r"\b(\w+)=", what) if self._has((*place, n))), None)
            self.wrong((*place, named) if named else place, what)
            return None

    def _has(self, place: Place) -> bool:
        value = self.source.data
        for step in place:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return False
        return True

    def _check_empty(self, value: Any, place: Place) -> None:
        """In YAML, a key without a value reads as if it were left out, and that would mean anybody."""
        if value is None:
            self.wrong(place, "has no value; leave it out or give it one")
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            self._check_empty(inner, (*place, key))

    def _told(self, error: dict[str, Any]) -> None:
        """One of pydantic's errors, in the words of who wrote the file."""
        place = tuple(step for step in error["loc"] if step not in ("<table>", "<other>"))
        if error.get("input", ...) is None and self._has(place):
            return  # told already
        match error["type"]:
            case "extra_forbidden":
                self.wrong(place, _unknown(str(place[-1]), place))
            case "missing":
                self.wrong(place[:-1], f"has no {place[-1]}")
            case "too_short" | "string_too_short":
                self.wrong(place, "is empty; leave it out or give it a value")
            case _:
                message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
                shown = json.dumps(error["input"], default=str)
                self.wrong(
                    place, message if error["type"] == "value_error" else f"should be {message}, not {shown:.80}"
                )


def _shown(place: Place) -> str:
    """`rules[2].quorum`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _unknown(key: str, place: Place) -> str:
    known = list(_table(place[:-1]).model_fields)
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(name for name in known if name[-1] != '_')}"
    return f"is not known here; {hint}"


def _table(place: Place) -> type[BaseModel]:
    """The form of the table that stands here."""
    names = [step for step in place if isinstance(step, str)]
    tables: dict[str, type[BaseModel]] = {
        "rules": form.RuleTable, "permissions": form.PermissionsTable, "stages": form.StageTable,
        "deadline": form.DeadlineTable, "escalate": form.EscalateTable, "hints": form.HintsTable,
    }  # fmt: skip
    return tables.get(names[-1], form.PolicyDocument) if names else form.PolicyDocument


def _known(option: str, names: Mapping[str, Any], wanted: str) -> str:
    if close := difflib.get_close_matches(wanted, names, 1):
        return f"did you mean {close[0]!r}?"
    return f"{option} has {', '.join(map(repr, sorted(names))) or 'none'}"


def _stage(given: form.StageTable | list[str]) -> Stage:
    if isinstance(given, list):
        return Stage(reviewers=tuple(given))
    return Stage(reviewers=tuple(given.reviewers or ()), quorum=given.quorum, distinct_roles=given.distinct_roles)


def _hours(table: form.DeadlineTable) -> Hours | None:
    if table.hours is None:
        if table.time_zone is not None or table.country is not None:
            raise ValueError("time_zone= and country= are of hours=, which is not given")
        return None
    if table.time_zone is None:
        raise ValueError('hours= needs a time_zone, such as "Europe/Berlin"')
    return Hours(table.hours, time_zone=table.time_zone, country=table.country)
