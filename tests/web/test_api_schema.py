"""The API does what its OpenAPI document says: schemathesis makes up calls, good and bad, against a real port.

`HITL_EXAMPLES=500` makes it try harder, and through each part of the schema one by one.
"""

import json
import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from hitl_graph.ledger import Ledger
from hitl_graph.web import api, create_app
from hitl_graph.web.security import Security
from hitl_graph.web.throttling import Limits
from tests.web.asking import Named, ask, two_of
from tests.web.conftest import serving
from tests.web.older_hypothesis import install
from tests.web.test_api import PEOPLE

EXAMPLES = int(os.environ.get("HITL_EXAMPLES", "12"))
# Whether an answer fits a request is more than a schema says: 422; and who may give it: 403.
FINE = ["2xx", "401", "403", "404", "409", "412", "422"]
_CHECKS: dict[str, Any] = {
    "positive_data_acceptance": {"expected-statuses": FINE},
    # Now and then it calls something wrong that is not, so it takes somebody who looks: in the long run only.
    "negative_data_rejection": {"enabled": EXAMPLES > 100},
}
_CONFIG: dict[str, Any] = {"checks": _CHECKS, "seed": 1}
KINDS: list[dict[str, Any]] = [
    {},
    {"terms": two_of("role:finance")},
    {"terms": two_of("role:legal")},
    {"kind": "review", "action": None, "draft": "Dear Bob,"},
    {"kind": "question", "action": None, "question": {"how": "many"}},
    {"kind": "escalation", "action": None, "answer_schema": {"properties": {"plan": {"type": "string"}}}},
]
_ENDS = {"api-health": 204, "api-unclaim": 409, "api-hand-back": 409, "api-take-back": 409}
"""Nothing was claimed or given of a request that is new."""
_seen = Counter[tuple[str, int]]()
install()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("schema") / "agent.db", directory=PEOPLE) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(ledger: Ledger) -> Generator[str]:
    never = Security(limits=Limits(requests=None, logins=None, tokens=None, decisions=None))
    with serving(create_app(ledger, authenticators=[Named(ledger, known=["alice"])], security=never)) as address:
        yield address


document = api.described()
del document["components"]["securitySchemes"]["session"]  # else each call is said to need both
document["security"] = [{"token": []}]
schema: Any = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict(_CONFIG))
schema = schema.exclude(operation_id="events")  # it does not end


def call(case: Any, ledger: Ledger, url: str) -> None:
    """A good call is made about a request that waits, so that it comes as far as it can."""
    if case.meta.generation.mode.is_positive and "id" in (case.path_parameters or {}):
        request = ask(ledger, **KINDS[sum(_seen.values()) % len(KINDS)])
        case.path_parameters["id"] = request.id
        if isinstance(case.body, dict) and "digest" in case.body:
            case.body["digest"] = request.digest
            case.body.pop("version", None)
            (case.headers or {}).pop("If-Match", None)
    response = case.call_and_validate(base_url=url, headers={"Authorization": "Bearer alice"})
    _seen[case.operation.definition.raw["operationId"], response.status_code] += 1


if EXAMPLES > 100:

    @schema.parametrize()  # type: ignore[untyped-decorator]
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def test_the_api_does_all_that_its_document_says(case: Any, ledger: Ledger, url: str) -> None:
        call(case, ledger, url)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", [one.name for one in api.OPERATIONS if one.name != "events"])
def test_the_api_does_what_its_document_says(name: str, mode: GenerationMode, ledger: Ledger, url: str) -> None:
    operation = schema.find_operation_by_id(name)
    if mode.is_negative and not (operation.query or operation.path_parameters):
        return  # there is nothing about it that could be wrong

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        call(case, ledger, url)

    check()
    if mode.is_positive:  # what was made up came as far as what it is about
        assert _seen[name, _ENDS.get(name, 200)], dict(_seen)


def test_the_document_is_openapi(url: str) -> None:
    told = httpx.get(f"{url}/api/openapi.json", headers={"authorization": "Bearer alice"}).json()
    assert told == json.loads(json.dumps(api.described(title="Inbox (hitl-graph)")))
    schemathesis.openapi.from_dict(told).validate()
    assert {name for one in told["paths"].values() for name in one} == {"get", "post", "delete"}
