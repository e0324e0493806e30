"""The arguments of a function as those of an action: plain JSON for people, the annotated types for the function."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.types import StreamWriter
from pydantic import BaseModel, ConfigDict, JsonValue, PydanticUserError, ValidationError, create_model

from hitl_graph.errors import ArgumentsError, PolicyError
from hitl_graph.model import canonical

__all__ = ["Arguments"]

_GIVEN: dict[Any, Callable[[], Any]] = {
    RunnableConfig: get_config,
    StreamWriter: get_stream_writer,
    BaseStore: get_store,
    Runtime: get_runtime,
}
"""What LangGraph gives a function by the type of a parameter: no arguments of the action."""


class Arguments:
    """How a function is called.

    Args:
        function: Its parameters have names; a parameter without an annotation takes plain JSON.
        name: Of the action.

    Attributes:
        model: Its parameters as a pydantic model, without those that LangGraph gives.

    Raises:
        PolicyError: Its calls cannot be put to people.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name = name
        self.signature = inspect.signature(function)
        try:
            hints = get_type_hints(function, include_extras=True)
        except Exception as exc:
            raise PolicyError(f"the annotations of {name} cannot be read: {exc}") from exc
        fields: dict[str, Any] = {}
        self._given: dict[str, Callable[[], Any]] = {}
        for parameter in self.signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise PolicyError(f"{name} takes {parameter}; people are shown arguments by name, so name them")
            hint = hints.get(parameter.name, Any)
            if (given := _given(hint)) is not None:
                self._given[parameter.name] = given
            else:
                fields[parameter.name] = (hint, ... if parameter.default is parameter.empty else parameter.default)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # names that a pydantic model has, too: they are ours here
                self.model = create_model(name, __config__=_CONFIG, **fields)
            self.model.model_json_schema()
        except (PydanticUserError, NameError, TypeError, ValueError) as exc:
            raise PolicyError(f"the arguments of {name} cannot be shown to people: {exc}") from exc

    def plain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, JsonValue]:
        """The arguments of a call, with the defaults, as plain JSON.

        Raises:
            TypeError: The function does not take them, as Python says it.
            ArgumentsError: They do not fit the annotations, or are something else after a way through JSON.
        """
        bound = self.signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if name not in self._given}
        if missing := self.model.model_fields.keys() - given.keys():
            raise TypeError(f"{self.name}() misses {', '.join(sorted(missing))}")
        fitted = self._fitted(given)
        try:
            plain: dict[str, JsonValue] = fitted.model_dump(mode="json", round_trip=True)
            canonical(plain)
            same = self._fitted(plain)
            changed = [name for name in given if not _same(getattr(same, name), getattr(fitted, name))]
        except (ValueError, TypeError) as exc:
            raise ArgumentsError(f"the arguments of {self.name} are not plain JSON ({exc}); it did not run") from exc
        if changed:
            raise ArgumentsError(
                f"{', '.join(changed)} of {self.name} would become something else on the way through JSON; it did not"
                " run. Give plain JSON, or annotate the parameter with its type"
            )
        return plain

    def bound(self, plain: Mapping[str, JsonValue]) -> inspect.BoundArguments:
        """The call that these arguments stand for.

        Raises:
            ArgumentsError: They do not fit.
        """
        fitted = self._fitted(plain)
        bound = self.signature.bind_partial()
        for name in self.signature.parameters:  # in their order, which positional ones need
            given = self._given.get(name)
            bound.arguments[name] = given() if given else getattr(fitted, name)
        return bound

    def _fitted(self, given: Mapping[str, Any]) -> BaseModel:
        try:
            fitted: BaseModel = self.model.model_validate(dict(given))
            return fitted
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "arguments"
            raise ArgumentsError(f"{self.name}: {where}: {first['msg']}; it did not run") from exc


_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=False, protected_namespaces=())


def _given(hint: Any) -> Callable[[], Any] | None:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for option in options:
        for kind, given in _GIVEN.items():
            if option == kind or get_origin(option) is kind:
                return given
    return None


def _same(one: object, other: object) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:
        return False
