"""Modes: what becomes of a policy's verdict while an agent only plans, runs unattended, or is only watched."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

from hitl_graph.errors import PolicyError
from hitl_graph.policy.verdict import Call, Mode, Verdict

__all__ = ["check_mode", "combined", "is_read_only", "under"]


def check_mode(mode: Any, name: str = "mode=") -> Mode:
    """The mode.

    Raises:
        PolicyError: There is no such one.
    """
    if mode not in get_args(Mode):
        raise PolicyError(f"{name} takes {', '.join(get_args(Mode))}, not {mode!r:.80}")
    found: Mode = mode
    return found


def combined(mode: Mode, run: Any) -> tuple[Mode, ...]:
    """The modes that hold in a run, of which each makes it stricter.

    Args:
        mode: Of the policy.
        run: What the run itself wants; it can only be stricter.

    Raises:
        PolicyError: The run wants something else.
    """
    if run is None or run == "default":
        return () if mode == "default" else (mode,)
    if run not in ("plan", "dont-ask"):
        raise PolicyError(
            f"configurable.hitl_mode takes 'plan' or 'dont-ask', which make a run stricter, not {run!r:.80};"
            " nothing ran"
        )
    both: tuple[Mode, ...] = ("dont-ask", "plan")
    return tuple(known for known in both if known in (mode, run))


def under(modes: Iterable[Mode], verdict: "Verdict", call: "Call") -> "Verdict":
    """What becomes of a verdict."""
    for mode in modes:
        verdict = _under(mode, verdict, call)
    return verdict


def _under(mode: Mode, verdict: "Verdict", call: "Call") -> "Verdict":
    if mode == "shadow" and verdict.outcome != "allow":
        word = "asked" if verdict.outcome == "ask" else "denied"
        reason = f"shadow: would have {word}: {verdict.reason}"
        return replace(verdict, outcome="allow", reason=reason, mode=mode, rules=verdict)
    if mode == "dont-ask" and verdict.outcome == "ask":
        reason = f"people would have to be asked ({verdict.reason}), and nobody is"
        return replace(verdict, outcome="deny", reason=reason, mode=mode, rules=verdict)
    if (
        mode == "plan"
        and verdict.outcome != "deny"
        and not (verdict.outcome == "allow" and is_read_only(call.metadata))
    ):
        reason = "this is plan mode, in which nothing runs that may have effects; say what it would do instead"
        return replace(verdict, outcome="deny", reason=reason, mode=mode, rules=verdict)
    return verdict


def is_read_only(metadata: Any) -> bool:
    """Whether a tool says that it changes nothing: `read_only` in its metadata, or else MCP's `readOnlyHint`."""
    return metadata.get("read_only", metadata.get("readOnlyHint")) is True
