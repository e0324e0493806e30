"""A policy: which calls run, which are asked about, which never run. Ordered rules, no I/O.

Several rules match: deny > ask > allow. None matches: ask. The order of the rules only chooses whose reason is shown
(of those that name people, if any do): who has to agree, and on which answers, is what all the rules that ask want
together.
"""

import difflib
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Self, get_args

from hitl_graph.errors import PolicyError
from hitl_graph.policy.modes import check_mode, combined, under
from hitl_graph.policy.rules import Considered, Rule, consider
from hitl_graph.policy.verdict import Call, Fact, Layer, Mode, Predicate, Verdict
from hitl_graph.steps import Steps, arun, run

__all__ = ["Policy"]

_REMEMBERED = 1000


class Policy:
    """Rules, checked once and judged for each call.

    Args:
        mode: `default`, `plan`, `dont-ask` or `shadow` (see `hitl_graph.policy.modes`).
        max_denials: After so many denied calls in a row, in which no call of the thread ran, people are asked what now.

    Raises:
        PolicyError: Something in the list is no rule, or an option makes no sense.
    """

    def __init__(self, rules: Iterable[Rule] = (), *, mode: Mode = "default", max_denials: int | None = None) -> None:
        self.rules = tuple(rules)
        self.mode: Mode = check_mode(mode)
        if max_denials is not None and (type(max_denials) is not int or max_denials < 1):
            raise PolicyError(f"max_denials= takes a number from 1, not {max_denials!r:.80}")
        self.max_denials = max_denials
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise PolicyError(f"a policy takes Rule(...), not {rule!r}")
        self._matching: dict[str, tuple[Rule, ...]] = {}

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        facts: Mapping[str, Fact] | None = None,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> Self:
        """Read `policy.toml`, YAML, or the permissions of a `settings.json` of Claude Code.

        Args:
            path: Its ending says what it is.
            facts: What the file's `facts` name.
            predicates: What a `when` of the file may name in place of a condition.

        Raises:
            PolicyFileError: It cannot be read, or has mistakes: all of them, each with its line.
        """
        from hitl_graph.policy.file import from_file

        return cls(**from_file(path, {} if facts is None else facts, {} if predicates is None else predicates))

    @classmethod
    def load(
        cls,
        text: str,
        name: str = "policy.toml",
        *,
        facts: Mapping[str, Fact] | None = None,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> Self:
        """As `from_file`, for a text; the ending of `name` says what it is.

        Raises:
            PolicyFileError: It has mistakes.
        """
        from hitl_graph.policy.file import load

        return cls(**load(text, name, {} if facts is None else facts, {} if predicates is None else predicates))

    @classmethod
    def from_permissions(
        cls, permissions: Mapping[str, Any] | str | PathLike[str], *, root: str | PathLike[str] | None = None
    ) -> Self:
        """Rules in Claude Code's form: `{"allow": [...], "ask": [...], "deny": [...]}` of `Tool(specifier)`.

        Args:
            permissions: These lists, the contents of a `settings.json` that has them, or its path.
            root: Where relative paths lie; the current folder unless given.

        Raises:
            PolicyError: An entry makes no sense.
        """
        from hitl_graph.policy.file import from_permissions

        return cls(**from_permissions(permissions, root))

    @classmethod
    def layered(
        cls,
        *,
        managed: "Policy | str | PathLike[str] | None" = None,
        project: "Policy | str | PathLike[str] | None" = None,
        user: "Policy | str | PathLike[str] | None" = None,
        facts: Mapping[str, Fact] | None = None,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> Self:
        """One policy of several layers: all their rules count, and a lower layer can only make a verdict stricter.

        Args:
            managed: The organisation's. A file that is not there is no layer; one that cannot be read is an error.
            project: The agent's own. A file has to be there.
            user: Of who runs it. A file that is not there is no layer.
            facts: See `from_file`.
            predicates: See `from_file`.

        Raises:
            PolicyFileError: A file cannot be read, or has mistakes.
            PolicyError: A lower layer sets something that is less strict than a higher one has it.
        """
        from hitl_graph.policy.layers import layered

        return cls(
            **layered(managed, project, user, lambda path: cls.from_file(path, facts=facts, predicates=predicates))
        )

    def check(self, tools: Iterable[str]) -> None:
        """Refuse rules that name none of the tools: a misspelt rule must not fail open.

        Raises:
            PolicyError: Names the rule and the tool that was probably meant.
        """
        names = sorted(tools)
        for rule in self.rules:
            if rule.tool != "*" and not rule.optional and not any(map(rule.matches, names)):
                close = difflib.get_close_matches(rule.tool, names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"the tools are {', '.join(names)}"
                raise PolicyError(f"Rule({rule.tool!r}, {rule.outcome!r}) matches no tool; {hint}")

    def _matches(self, name: str) -> tuple[Rule, ...]:
        """The rules that speak of a tool. Remembered, as there are few tools and there may be hundreds of rules."""
        if (found := self._matching.get(name)) is None:
            found = tuple(rule for rule in self.rules if rule.matches(name))
            if len(self._matching) < _REMEMBERED:  # a model may invent any number of names
                self._matching[name] = found
        return found

    def judge(self, call: Call, *, mode: Any = None) -> Verdict:
        """The verdict on one call. An async predicate is run to its end in a thread of its own.

        Args:
            mode: What the run wants (`plan` or `dont-ask`), on top of the policy's own.
        """
        return run(self.steps(call, mode=mode))

    async def ajudge(self, call: Call, *, mode: Any = None) -> Verdict:
        """As `judge`."""
        return await arun(self.steps(call, mode=mode))

    def modes(self, run: Any = None) -> tuple[Mode, ...]:
        """The modes that hold in a run which wants this one.

        Raises:
            PolicyError: It wants what is not stricter.
        """
        return combined(self.mode, run)

    def steps(self, call: Call, *, mode: Any = None) -> Steps[Verdict]:
        """The judgement itself: yields each predicate that must be asked."""
        verdict = yield from self.by_rules(call)
        return under(self.modes(mode), verdict, call)

    def by_rules(self, call: Call) -> Steps[Verdict]:
        """What the rules say, whatever the mode."""
        best: dict[Layer | None, Verdict] = {}
        for rule in self._matches(call.name):
            verdict = (yield from consider(rule, call)).verdict
            if verdict is not None:
                known = best.get(rule.layer)
                best[rule.layer] = verdict if known is None else known.stricter(verdict)
        return _layered(best) or Verdict("ask", "no rule matches")

    def considered(self, call: Call) -> list[Considered]:
        """What each rule says of one call, for people who wonder why."""
        return [
            run(consider(rule, call)) if rule.matches(call.name) else Considered(rule, None, f"is about {rule.tool!r}")
            for rule in self.rules
        ]


def _layered(best: Mapping[Layer | None, Verdict]) -> Verdict | None:
    found: Verdict | None = None
    for layer in (None, *get_args(Layer)):
        if (verdict := best.get(layer)) is not None:
            found = verdict if found is None else found.over(verdict)
    return found
