"""Plays what a client sends, from the files in `answers`: one file a client and action.

`$name.path` in a file stands for something that the client was shown; `{"$merge": [...]}` for objects put together, the
later ones first; `{"$json": ...}` for JSON in a text.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BOOKING", "Recorded", "bookings", "filled", "recorded"]

_ANSWERS = Path(__file__).parent / "answers"
BOOKING: dict[str, Any] = {"minutes": 30, "guests": ["ann", "bob"], "catering": False, "note": None}


@dataclass(frozen=True)
class Recorded:
    """What a client sends, and what comes of it.

    Attributes:
        calls: How many calls the agent makes at once.
        sends: What is sent, one after the other.
        booked: What each booking that was made differs in from the one asked about.
        told: Part of what the model was told.
        error: What the last thing that was sent fails with.
        requests: What became of the requests, in the order of the calls.
        with_a_worker: The same, where the server has a `ServerWorker`.
    """

    client: str
    action: str
    calls: int
    sends: list[dict[str, Any]]
    booked: list[dict[str, Any]]
    told: str
    error: str | None
    requests: list[str]
    with_a_worker: list[str]

    @property
    def name(self) -> str:
        return f"{self.client}: {self.action}"


def recorded() -> list[Recorded]:
    """All there are."""
    found = []
    for path in sorted(_ANSWERS.glob("*/*.json")):
        file = json.loads(path.read_text())
        then = file["then"]
        found.append(
            Recorded(
                path.parent.name,
                path.stem,
                file.get("calls", 1),
                file["sends"],
                then.get("booked", []),
                then.get("told", ""),
                then.get("error"),
                then["requests"],
                then.get("requests_with_a_worker", then["requests"]),
            )
        )
    return found


def bookings(room: str, calls: int) -> str:
    """What makes the agent ask for that many bookings of a room."""
    return json.dumps([BOOKING | {"room": room}] * calls)


def filled(value: Any, known: dict[str, Any]) -> Any:
    """A value of a file, with what the client was shown."""
    if isinstance(value, str):
        if not value.startswith("$"):
            return value
        found: Any = known
        for part in value.removeprefix("$").split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
        return found
    if isinstance(value, list):
        return [filled(one, known) for one in value]
    if not isinstance(value, dict):
        return value
    if "$merge" in value:
        merged: dict[str, Any] = {}
        for part in value["$merge"]:
            merged |= filled(part, known)
        return merged
    if "$json" in value:
        return json.dumps(filled(value["$json"], known))
    return {filled(key, known): filled(one, known) for key, one in value.items()}
