"""Automatic checks of a draft: functions, pydantic models, and a model as judge.

A check only ever adds findings. One that fails, or gives what nobody understands, is a finding that people are asked
about; nothing that a check says delivers a draft.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langgraph.constants import TAG_NOSTREAM
from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import to_jsonable_python

from hitl_graph.model import Finding, canonical
from hitl_graph.steps import Step, Steps, calling

__all__ = ["Check", "Judge", "findings"]

Check = Callable[[Any], Any] | type[BaseModel]
"""A function of the draft, sync or async, or a pydantic model that the draft has to fit.

A function gives None or True if there is nothing to say, False or a text for something to ask people about, a
`Finding` or several of all these for more. What does not fit a pydantic model goes back to the writer.
"""

_AT_MOST = 50  # findings of one check


def findings(checks: Sequence[Check], draft: Any, plain: JsonValue) -> Steps[tuple[Finding, ...]]:
    """What the checks find.

    Args:
        draft: As the state has it; each check gets a copy.
        plain: The same as JSON.
    """
    found: list[Finding] = []
    for check in checks:
        name = str(getattr(check, "__name__", None) or type(check).__name__)
        if isinstance(check, type) and issubclass(check, BaseModel):
            found += _misfits(check, plain)
            continue
        own = deepcopy(draft)
        try:
            if isinstance(check, Judge):
                said = yield Step(partial(check, own), partial(check.acall, own))
            else:
                said = yield calling(check, own, in_thread=True)
            found += _read(said, name)
        except Exception as exc:
            found.append(Finding(text=f"the check failed: {exc!r:.300}", check=name))
    return tuple(found)


def _read(said: Any, name: str) -> list[Finding]:
    if said is None or said is True:
        return []
    if said is False:
        return [Finding(text="it does not pass", check=name)]
    if isinstance(said, Finding):
        canonical(said.model_dump(mode="json"))
        return [said if said.check else said.model_copy(update={"check": name})]
    if isinstance(said, str):
        canonical(said)
        return [Finding(text=said, check=name)] if said.strip() else []
    if isinstance(said, Iterable) and not isinstance(said, dict | bytes):
        return [finding for part in list(said)[:_AT_MOST] for finding in _read(part, name)]
    return [Finding(text=f"the check gave {said!r:.200}, which is no finding", check=name)]


def _misfits(model: type[BaseModel], plain: JsonValue) -> list[Finding]:
    """What keeps a draft from being one of these; a text is read as JSON."""
    try:
        _ = model.model_validate_json(plain) if isinstance(plain, str) else model.model_validate(plain)
    except ValidationError as exc:
        return [
            Finding(
                text=error["msg"],
                field=".".join(map(str, error["loc"])) if error["loc"] and not isinstance(plain, str) else None,
                then="revise",
                check=model.__name__,
            )
            for error in exc.errors(include_url=False)[:_AT_MOST]
        ]
    except Exception as exc:  # a validator of the user's that raises something else
        return [Finding(text=f"the check failed: {exc!r:.300}", check=model.__name__)]
    return []


class Judge:
    """A check by a chat model: each line of its answer is a finding, unless it just says OK.

    Its tokens are not streamed. What it says adds to a card or sends a draft back; it never delivers one.

    Args:
        model: Any chat model.
        instructions: What to look for.
        then: What comes of its findings; see `Finding`.
    """

    def __init__(
        self, model: BaseChatModel, instructions: str, *, then: Literal["note", "ask", "revise", "block"] = "ask"
    ) -> None:
        self.model, self.instructions = model, instructions
        self.then: Literal["note", "ask", "revise", "block"] = then
        self.__name__ = "judge"

    def __call__(self, draft: Any) -> list[Finding]:
        """What the model objects to."""
        return self._findings(self.model.invoke(self._prompt(draft), {"tags": [TAG_NOSTREAM]}))

    async def acall(self, draft: Any) -> list[Finding]:
        """As calling it."""
        return self._findings(await self.model.ainvoke(self._prompt(draft), {"tags": [TAG_NOSTREAM]}))

    def _prompt(self, draft: Any) -> list[BaseMessage]:
        text = draft if isinstance(draft, str) else canonical(to_jsonable_python(draft))
        rule = "Name each problem of the draft on a line of its own. If there is none, answer just: OK"
        return [SystemMessage(f"{self.instructions}\n\n{rule}"), HumanMessage(f"<draft>\n{text}\n</draft>")]

    def _findings(self, answer: BaseMessage) -> list[Finding]:
        lines = [line.strip().removeprefix("- ") for line in answer.text.splitlines() if line.strip()]
        if [line.rstrip(".!").upper() for line in lines] == ["OK"]:
            return []
        if not lines:
            return [Finding(text="the judge gave no answer", check=self.__name__)]
        return [Finding(text=line, then=self.then, check=self.__name__) for line in lines[:_AT_MOST]]
