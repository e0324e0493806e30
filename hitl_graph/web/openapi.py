"""The API as data: each operation once, from which its route and its part of the OpenAPI document are made."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hitl_graph.web.errors import ProblemDocument

__all__ = ["Operation", "document", "routes"]

_PLACE = "#/components/schemas/{model}"
_PROBLEM = TypeAdapter(ProblemDocument)
_ERRORS = {
    400: "The body is no JSON.",
    403: "You may not do this, or your token may not.",
    404: "There is no such request, or it is not for you to see.",
    409: "Somebody was faster, or something else is asked now. Nothing was recorded.",
    412: "It is not the one that `If-Match` names any more. Nothing was recorded.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "What was sent does not fit; `errors` has each mistake with its place. Nothing was recorded.",
}


class _Schemas(GenerateJsonSchema):
    """As pydantic's; a tuple of one type is written as a list of that length, which more tools understand."""

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        made = super().tuple_schema(schema)
        kinds = made.get("prefixItems", [])
        if len(kinds) > 1 and all(kind == kinds[0] for kind in kinds) and "items" not in made:
            return {"type": "array", "items": kinds[0], "minItems": len(kinds), "maxItems": len(kinds)}
        return made


@dataclass(frozen=True)
class Operation:
    """One call of the API.

    Attributes:
        name: Of the route; `operationId`.
        answer: What it answers; None: nothing that is JSON.
        body: What it takes.
        default: Whether the body may be left out.
        query: The parameters of its address.
        errors: Statuses with which it may refuse, beside those that any call has.
        extra: What else its part of the document has.
    """

    method: str
    path: str
    name: str
    summary: str
    endpoint: Callable[[Request], Awaitable[Response]]
    answer: TypeAdapter[Any] | None = None
    body: TypeAdapter[Any] | None = None
    default: bool = False
    query: type[BaseModel] | None = None
    errors: Sequence[int] = ()
    status: int = 200
    is_open: bool = False
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


def routes(operations: Sequence[Operation]) -> list[Route]:
    """The routes of these operations."""
    return [Route(one.path, one.endpoint, methods=[one.method], name=one.name) for one in operations]


def document(
    operations: Sequence[Operation], *, title: str, version: str, description: str, address: str
) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        address: Under which the application is mounted.
    """
    schemas, parts = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": address or "/"}],
        "paths": paths,
        "components": {
            "schemas": parts,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`hitl token create` makes one."},
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "hitl_session",
                    "description": "Whoever has logged in with a browser; what changes something also takes the header"
                    " `X-CSRF-Token`.",
                },
            },
        },
        "security": [{"token": []}, {"session": []}],
    }  # fmt: skip


_Key = tuple[str, JsonSchemaMode]


def _schemas(operations: Sequence[Operation]) -> tuple[dict[_Key, dict[str, Any]], dict[str, Any]]:
    wanted: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [("problem", "serialization", _PROBLEM)]
    for one in operations:
        if one.body is not None:
            wanted.append((one.name, "validation", one.body))
        if one.answer is not None:
            wanted.append((one.name, "serialization", one.answer))
    made, parts = TypeAdapter.json_schemas(wanted, ref_template=_PLACE, schema_generator=_Schemas)
    return {(str(name), mode): schema for (name, mode), schema in made.items()}, parts.get("$defs", {})


def _operation(one: Operation, schemas: dict[_Key, dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    if parameters := [*_in_path(one.path), *_in_query(one.query)]:
        told["parameters"] = parameters
    if one.body is not None:
        content = {"application/json": {"schema": schemas[one.name, "validation"]}}
        told["requestBody"] = {"required": not one.default, "content": content}
    ok: dict[str, Any] = {"description": HTTPStatus(one.status).phrase}
    if one.answer is not None:
        ok["content"] = {"application/json": {"schema": schemas[one.name, "serialization"]}}
    told["responses"] = {str(one.status): ok}
    always = (401, 403, 429, 503) if not one.is_open else (429,)
    for status in sorted({*one.errors, *always, *((400, 413, 415, 422) if one.body else ())}):
        content = {"application/problem+json": {"schema": schemas["problem", "serialization"]}}
        text = _ERRORS.get(status, HTTPStatus(status).phrase)
        told["responses"][str(status)] = {"description": text, "content": content}
    if one.is_open:
        told["security"] = []
    return _merged(told, one.extra)


def _merged(told: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        if name == "parameters":
            told[name] = [*told.get(name, ()), *value]
        elif isinstance(value, dict) and isinstance(told.get(name), dict):
            told[name] = _merged(told[name], value)
        else:
            told[name] = value
    return told


def _in_path(path: str) -> list[dict[str, Any]]:
    if "{id}" not in path:
        return []
    schema = {"type": "string", "pattern": "^[0-9a-f]{20}$"}
    return [{"name": "id", "in": "path", "required": True, "schema": schema, "description": "All of the request's id."}]


def _in_query(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = query.model_json_schema(ref_template=_PLACE)
    found = []
    for name, part in schema["properties"].items():
        told = json.loads(json.dumps(part))
        text = told.pop("description", "")
        told.pop("title", None)
        if len(options := [option for option in told.pop("anyOf", ()) if option != {"type": "null"}]) == 1:
            told = {**told, **options[0]}  # in an address, what is not given is null
        if told.get("default", ...) is None:
            del told["default"]
        found.append({"name": name, "in": "query", "required": False, "schema": told, "description": text})
    return found
