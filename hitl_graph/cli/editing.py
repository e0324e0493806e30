"""New arguments for a call: from options, or from the reviewer's editor. Nothing here records anything."""

import difflib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hitl_graph.cli import views
from hitl_graph.cli.app import REFUSED, USAGE, Failure
from hitl_graph.drafts import is_patch
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.facts import Situation, facts_of
from hitl_graph.form import parse_json
from hitl_graph.model import Request

__all__ = ["Draft", "assigned", "difference", "parsed"]


def parsed(text: str, what: str) -> Any:
    """The JSON in a text.

    Raises:
        Failure: It is none; the message names line and column.
    """
    try:
        return parse_json(text)
    except ValueError as exc:
        joined = " is" if str(exc).startswith(("not JSON", "nested")) else ":"
        raise Failure(USAGE, f"{what}{joined} {exc}; nothing was recorded") from exc


def assigned(request: Request, assignments: Sequence[str]) -> dict[str, Any]:
    """The arguments of a request with some of them set anew, from `name=value`; where it has none, only those.

    A value is a text where a text is wanted, else JSON, else a text.
    """
    args: dict[str, Any] = dict(request.action.args) if request.action else {}
    if request.action is None and isinstance(request.draft, dict):
        args = dict(request.draft)
    schema = request.answer_schema or {}
    properties = schema.get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise Failure(USAGE, f"--set takes NAME=VALUE, not {assignment!r}; nothing was recorded")
        if name not in args and name not in known:
            what = "argument" if request.action else "field" if request.draft is not None else "key"
            raise InvalidDecisionError(
                request.id, f"there is no {what} {name!r}; it has {', '.join({**args, **known}) or 'none'}"
            )
        args[name] = _typed(text, _kinds(known.get(name)), args.get(name))
    return args


def _kinds(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return set[str]().union(*map(_kinds, options))
    kinds = schema.get("type")
    return set(kinds) if isinstance(kinds, list) else {kinds} if isinstance(kinds, str) else set()


def _typed(text: str, kinds: set[str], now: Any) -> Any:
    if text == "null" and "null" in kinds:
        return None
    if "string" in kinds or (not kinds and isinstance(now, str)):
        return text
    try:
        return parsed(text, text)
    except Failure:
        return text


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What changed, line by line: `- old`, `+ new`."""
    lines = difflib.unified_diff(views.lines_of(before), views.lines_of(after), n=1, lineterm="")
    return [f"{line[0]} {line[1:]}" for line in list(lines)[2:] if not line.startswith("@@")]


class Draft:
    """What a reviewer edits, as a file in their editor: the arguments of an action, a draft, or the state of an agent.

    A draft that is a text is the file as it stands; in JSON, lines that begin with `#` do not count. The file is kept
    when its text could not be recorded.
    """

    def __init__(self, request: Request) -> None:
        subject = (
            _action(request) if request.action else _draft(request) if request.kind == "review" else _state(request)
        )
        self.name, self.before, self.doing, self._noun = subject.name, subject.before, subject.doing, subject.noun
        self._is_patch = subject.is_patch
        if isinstance(self.before, str):
            suffix, content = ".patch" if is_patch(self.before) else ".md", self.before
        else:
            suffix, content = ".json", subject.head + json.dumps(self.before, ensure_ascii=False, indent=2)
        prefix = f"hitl-{self.name[:20]}-".replace("/", "_").replace(" ", "-")
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(content if content.endswith("\n") else f"{content}\n")
        self.path = Path(name)

    def open(self) -> None:
        """Let the reviewer edit.

        Raises:
            Failure: There is no editor, or it did not end well.
        """
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        words = shlex.split(command)
        if not words or shutil.which(words[0]) is None:
            raise Failure(
                USAGE, f"the editor {command!r} is not there; set EDITOR, or use --set NAME=VALUE or --args JSON"
            )
        ended = subprocess.run([*words, str(self.path)], check=False).returncode
        if ended != 0:
            raise Failure(REFUSED, f"the editor ended with {ended}; nothing was recorded")

    def read(self) -> Any:
        """What is in the file now; of a state, the keys that were changed.

        Raises:
            Failure: The file is empty or unchanged, or not JSON where that is needed.
        """
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(USAGE, f"{self.path} cannot be read ({exc}); nothing was recorded") from exc
        new: Any = text
        if not isinstance(self.before, str):
            kept = ["" if line.lstrip().startswith("#") else line for line in text.split("\n")]  # their numbers stay
            text = "\n".join(kept)
        if not text.strip():
            raise Failure(REFUSED, "the file is empty; nothing was recorded")
        if not isinstance(self.before, str):
            new = parsed(text, "the file")
            if isinstance(self.before, dict) and not isinstance(new, dict):
                raise Failure(USAGE, f"{self._noun} a JSON object {{...}}; nothing was recorded")
        elif not self.before.endswith("\n"):
            new = text.removesuffix("\n")  # editors, and we, end a file with one
        if new == self.before and json.dumps(new, sort_keys=True) == json.dumps(self.before, sort_keys=True):
            raise Failure(REFUSED, "nothing was changed; nothing was recorded")
        if self._is_patch and isinstance(self.before, dict):
            was = {name: json.dumps(value, sort_keys=True) for name, value in self.before.items()}
            return {name: value for name, value in new.items() if json.dumps(value, sort_keys=True) != was.get(name)}
        return new

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class _Subject(NamedTuple):
    """What is edited.

    Attributes:
        before: It, as it is.
        head: What stands above it, where it is JSON.
        noun: It, in a sentence.
        doing: What is asked before it is recorded.
        is_patch: Only what was changed counts.
    """

    name: str
    before: Any
    head: str
    noun: str
    doing: str
    is_patch: bool = False


_NO_COUNT = "# Lines with # do not count.\n"


def _action(request: Request) -> _Subject:
    assert request.action is not None
    name = views.visible(request.action.name)
    may = "" if request.editable is None else f"\n# Only these may change: {', '.join(request.editable) or 'none'}."
    head = (
        f"# The arguments of {name}, request {request.id}, thread {views.visible(request.thread_id)}.\n"
        f"# It runs with what you save. Unchanged or empty: nothing is recorded.{may}\n{_NO_COUNT}"
    )
    return _Subject(request.action.name, views.arguments(request), head, "the arguments are", f"Run {name} with this")


def _draft(request: Request) -> _Subject:
    if request.draft is None:
        raise InvalidDecisionError(request.id, "there is no draft to edit")
    before = views.arguments(request, request.draft) if isinstance(request.draft, dict) else request.draft
    head = (
        f"# The draft, request {request.id}, thread {views.visible(request.thread_id)}.\n"
        f"# Delivered is what you save. Unchanged or empty: nothing is recorded.\n{_NO_COUNT}"
    )
    return _Subject(request.kind, before, head, "the draft is", "Deliver this")


def _state(request: Request) -> _Subject:
    facts = facts_of(request)
    if not isinstance(facts, Situation):
        raise InvalidDecisionError(request.id, "there is no action to edit")
    properties = (request.answer_schema or {}).get("properties")
    more = [name for name in properties if name not in facts.state] if isinstance(properties, dict) else []
    added = [f"{name} (is added to)" if name in facts.adds else name for name in more]
    head = (
        f"# The state of thread {views.visible(request.thread_id)}, request {request.id}.\n"
        "# The keys that you change are put into it; those that you leave out stay as they are.\n"
        + (f"# You may also give: {', '.join(added)}.\n" if added else "")
        + _NO_COUNT
    )
    return _Subject("the state", dict(facts.state), head, "the state is", "Change the state so", is_patch=True)
