"""Everything that is known of an example, as plain JSON, and back. No I/O."""

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from hitl_graph.errors import LearningError
from hitl_graph.learning.examples import Example
from hitl_graph.learning.formats.chat import Unusable
from hitl_graph.learning.formats.right import finite

__all__ = ["columns", "from_row", "row"]

_EXAMPLE: TypeAdapter[Example] = TypeAdapter(Example)
_OWN = frozenset(Example.__dataclass_fields__)
_JSON = ("input", "output", "right", "better", "votes")


def row(example: Example) -> dict[str, Any]:
    """All fields of an example, and beside them what follows: whether it was `wrong`, and what is `right`.

    Raises:
        Unusable: It was redacted, so there is nothing to say.
    """
    if example.output is None:
        raise Unusable("redacted")
    found = cast("dict[str, Any]", _EXAMPLE.dump_python(example, mode="json"))
    return found | {"score": finite(example.score), "wrong": example.wrong, "right": example.right}


def from_row(found: Mapping[str, Any]) -> Example:
    """The example of a row that `row` made; other keys are passed over.

    Raises:
        LearningError: It is none.
    """
    try:
        return _EXAMPLE.validate_python({name: value for name, value in found.items() if name in _OWN})
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        raise LearningError(f"this is no example: {'.'.join(map(str, error['loc']))}: {error['msg']}") from exc


def columns(example: Example) -> dict[str, Any]:
    """As `row`, for a table, whose columns have one type each: what can be anything is JSON.

    Raises:
        Unusable: It was redacted.
    """
    found, decision = row(example), example.decision
    texts = {name: None if found[name] is None else json.dumps(found[name], ensure_ascii=False) for name in _JSON}
    said = {"decision": decision.type, "message": decision.message} if decision else {"decision": None, "message": None}
    return found | texts | said | {"at": example.at}
