"""What the API reads: query strings and JSON bodies, checked strictly, with the place of each mistake."""

import json
import re
from collections import Counter
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request

from hitl_graph.model import WORDS
from hitl_graph.web.errors import ProblemError, Wrong

__all__ = ["Body", "Flag", "Instant", "Line", "Number", "Query", "read_body", "read_query", "wrong"]

T = TypeVar("T")
Q = TypeVar("Q", bound=BaseModel)
Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\u0000-\u001f\u007f]+$")]
"""A name, an id or a few words."""
Flag = Annotated[
    bool, Field(strict=True), BeforeValidator(lambda given: {"true": True, "false": False}.get(given, given))
]
"""`true` or `false`."""
Number = Annotated[int, Field(strict=True), BeforeValidator(lambda given: _number(given))]
"""Decimal digits."""
Instant = Annotated[AwareDatetime, BeforeValidator(lambda given: _instant(given))]
"""As RFC 3339 writes it."""
_DEEPEST = 64


def _number(given: Any) -> Any:
    return int(given) if isinstance(given, str) and re.fullmatch(r"-?[0-9]{1,19}", given) else given


def _instant(given: Any) -> Any:
    if isinstance(given, str) and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", given):
        raise ValueError("give a date and a time, such as 2026-11-30T09:00:00Z")
    return given


class Query(BaseModel):
    """The parameters of an address. Unknown ones are refused: a filter that is misspelt must not list everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """A JSON body. Unknown fields and other types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_query(request: Request, model: type[Q]) -> Q:
    """The parameters of an address.

    Raises:
        ProblemError: 422: unknown, twice, or of another form.
    """
    given = request.query_params
    if twice := sorted({name for name, _ in given.multi_items() if len(given.getlist(name)) > 1}):
        _refuse([Wrong(place=f"query.{name}", message="is given twice") for name in twice])
    try:
        return model.model_validate(dict(given))
    except ValidationError as exc:
        raise wrong(exc, "query.") from exc


async def read_body(request: Request, kind: TypeAdapter[T], *, default: bytes | None = None) -> T:
    """A JSON body.

    Args:
        default: What counts where nothing is sent.

    Raises:
        ProblemError: 415: it is not said to be JSON. 400: it is no JSON. 422: it is not what is needed here.
    """
    body = await request.body()  # not too long: see `Security`
    named = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body and default is not None:
        body = default
    elif named != "application/json":
        detail = f"Send application/json, not {named or 'a body without a type'}. Nothing was recorded"
        raise ProblemError(415, "unsupported-media-type", "The body is not JSON", detail)
    text = _text(body)
    try:
        return kind.validate_json(text, strict=True)
    except ValidationError as exc:
        raise wrong(exc) from exc


def _text(body: bytes) -> str:
    """The body, if every JSON reader reads the same in it: no field twice, no NaN, no half of a character."""
    try:
        text = body.decode()
        _check(json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite), "", 0)
    except UnicodeDecodeError as exc:
        raise _no_json(f"byte {exc.start} is not UTF-8", f"byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise _no_json(exc.msg, f"line {exc.lineno}, column {exc.colno}") from exc
    except RecursionError as exc:
        _refuse([Wrong(place="body", message=f"is nested deeper than {_DEEPEST}")], exc)
    except ValueError as exc:  # also a number of more digits than Python reads
        _refuse([Wrong(place="body", message=str(exc))], exc)
    return text


def _no_json(why: str, place: str) -> ProblemError:
    detail = f"The body is no JSON ({place}: {why}). Nothing was recorded"
    return ProblemError(400, "no-json", "The body is no JSON", detail, errors=(Wrong(place=place, message=why),))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!a:.80} is given twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    if (number := float(text)) in (float("inf"), float("-inf")):
        raise ValueError(f"{text:.40} is too large a number")
    return number


def _check(value: Any, place: str, depth: int) -> None:
    """Refuse half characters and what is nested too deeply, with the place."""
    if depth > _DEEPEST:
        _refuse([Wrong(place=place[1:200], message=f"is nested deeper than {_DEEPEST}")])
    match value:
        case str():
            _whole(value, place)
        case dict():
            for name, item in value.items():
                _whole(name, place)
                _check(item, f"{place}.{name}", depth + 1)
        case list():
            for number, item in enumerate(value):
                _check(item, f"{place}.{number}", depth + 1)
        case _:
            pass


def _whole(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = place[1:200].encode(errors="replace").decode() or "body"
        _refuse([Wrong(place=shown, message="has half of a character (a lone surrogate)")])


def wrong(exc: ValidationError, before: str = "") -> ProblemError:
    """What pydantic found, as a problem.

    Args:
        before: What the places begin with.
    """
    found = exc.errors(include_url=False, include_context=False, include_input=False)[:20]
    return _problem([Wrong(place=before + _place(one["loc"]), message=one["msg"]) for one in found])


def _place(loc: tuple[int | str, ...]) -> str:
    inside = loc[1:] if loc and loc[0] in WORDS else loc  # pydantic names the branch of a union, too
    return ".".join(map(str, inside)).encode(errors="replace").decode() or "body"


def _problem(errors: list[Wrong]) -> ProblemError:
    told = "; ".join(f"{one.place}: {one.message}" for one in errors[:3])
    detail = f"{told}. Nothing was recorded"
    return ProblemError(422, "invalid", "What was sent does not fit", detail, errors=tuple(errors))


def _refuse(errors: list[Wrong], cause: Exception | None = None) -> NoReturn:
    raise _problem(errors) from cause
