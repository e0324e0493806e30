"""What a card says of evidence: short excerpts, and next steps by kind."""

from collections.abc import Iterable

from hitl_graph.stuck.evidence import Kind

__all__ = ["SUGGESTIONS", "different", "excerpt"]

_EXCERPT, _DIFFERENT = 200, 4

SUGGESTIONS: dict[Kind, tuple[str, ...]] = {
    "repeated_action": (
        "Say what the result means, or what to do instead of the same call",
        "Give the missing value yourself",
        "Stop the run",
    ),
    "oscillation": (
        "Say which of the two ways to take, and why the other one is closed",
        "Give the missing fact yourself",
        "Stop the run",
    ),
    "repeated_failure": (
        "Say what the error means, or which name or value is right",
        "Name another tool or another way",
        "Repair what the tool needs (access, service, data), then carry on",
        "Stop the run",
    ),
    "no_new_information": (
        "Say what is still missing, and where to find it",
        "Let it answer with what it has",
        "Stop the run",
    ),
    "monologue": ("Tell it to take the first step now", "Name the tool to use", "Stop the run"),
    "dialogue_stall": (
        "Answer the customer yourself, or hand over to a colleague",
        "Allow an exception, and say which",
        "Tell the agent to close the conversation",
    ),
    "delegation_stall": (
        "Ask for something smaller, or in other words",
        "Name another helper, or do this part yourself",
        "Let it answer with what it has",
        "Stop the run",
    ),
    "malformed_output": ("Carry on, so that the model tries again", "Switch the model or shorten the history", "Stop"),
    "error": ("Repair the cause, then carry on", "Name another way", "Stop the run"),
    "budget": ("Carry on with the same budget again", "Let it answer with what it has", "Stop the run"),
    "low_confidence": ("Give the fact it is not sure of", "Let it check with a tool first", "Decide yourself"),
}


def excerpt(text: str, limit: int = _EXCERPT) -> str:
    """One line of it, shortened in the middle."""
    line = " ".join(
        text[: 4 * limit].split() if len(text) <= 4 * limit else [*text[:limit].split(), *text[-limit:].split()]
    )
    return line if len(line) <= limit else f"{line[: limit * 2 // 3]} … {line[-(limit // 3) :]}"


def different(texts: Iterable[str]) -> tuple[str, ...]:
    """Excerpts, each once; of many the first and the last ones."""
    found = list(dict.fromkeys(map(excerpt, texts)))
    return tuple(found if len(found) <= _DIFFERENT else [found[0], *found[1 - _DIFFERENT :]])
