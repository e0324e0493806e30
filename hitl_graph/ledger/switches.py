"""Switches: what an operator sets above every policy, at once and for all processes.

They are read in the transaction that takes a permit, so that no call starts after one was set that it concerns.
"""

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from hitl_graph.errors import SwitchError
from hitl_graph.ledger import audit
from hitl_graph.model import from_ms
from hitl_graph.storage import Transaction

__all__ = ["Setting", "Switch", "lift", "listed", "put", "stopping", "strictest"]

Setting = Literal["ask", "deny"]


@dataclass(frozen=True)
class Switch:
    """A switch that is on.

    Attributes:
        scope: `all`, `graph:NAME`, `thread:ID` or `tool:GLOB`.
        outcome: `deny`: nothing that it concerns starts, whoever approved it. `ask`: what a policy or a standing
            permission lets run is asked about.
    """

    scope: str
    outcome: Setting
    reason: str
    by: str
    at: datetime

    def concerns(self, tool: str | None, graph: str | None, thread: str | None = None) -> bool:
        """Whether it is about a call of this tool in this thread of the graph of this name."""
        kind, _, name = self.scope.partition(":")
        match kind:
            case "graph":
                return graph == name
            case "thread":
                return thread == name
            case "tool":
                return tool is not None and fnmatchcase(tool, name)
            case _:
                return kind == "all"

    @property
    def told(self) -> str:
        """What people and models are told of it."""
        doing = "stopped it" if self.outcome == "deny" else "wants people asked"
        return f"{self.by} {doing}: {self.reason} (switch {self.scope})"


def put(tx: Transaction, now_ms: int, scope: str, outcome: Setting, *, reason: str, by: str) -> Switch:
    """Turn a switch on, or set it anew.

    Raises:
        SwitchError: Scope, outcome or reason make no sense.
    """
    kind, colon, name = scope.partition(":")
    if scope != "all" and (kind not in ("graph", "thread", "tool") or not colon or not name):
        known = "'all', 'graph:NAME', 'thread:ID' or 'tool:GLOB'"
        raise SwitchError(f"a switch is for {known}, not for {scope!r}; nothing was set")
    if outcome not in get_args(Setting):
        raise SwitchError(f"a switch is set to 'ask' or 'deny', not to {outcome!r}; nothing was set")
    if not reason.strip():
        raise SwitchError("say why: agents and people are told; nothing was set")
    tx.execute(
        "INSERT INTO hitl_switches (scope, outcome, reason, set_by, set_ms) VALUES (?,?,?,?,?) ON CONFLICT (scope)"
        " DO UPDATE SET outcome = excluded.outcome, reason = excluded.reason, set_by = excluded.set_by,"
        " set_ms = excluded.set_ms",
        (scope, outcome, reason, by, now_ms),
    )
    audit.append(tx, now_ms, "switch.set", scope, {"outcome": outcome, "reason": reason}, thread_id=None, actor=by)
    return Switch(scope, outcome, reason, by, from_ms(now_ms))


def lift(tx: Transaction, now_ms: int, scope: str, *, reason: str, by: str) -> None:
    """Turn a switch off.

    Raises:
        SwitchError: It is not on.
    """
    if tx.execute("DELETE FROM hitl_switches WHERE scope = ?", (scope,)).rowcount != 1:
        on = ", ".join(switch.scope for switch in listed(tx))
        raise SwitchError(f"no switch {scope!r} is on" + (f"; those that are: {on}" if on else ""))
    audit.append(tx, now_ms, "switch.lifted", scope, {"reason": reason}, thread_id=None, actor=by)


def listed(tx: Transaction) -> list[Switch]:
    """The switches that are on."""
    rows = tx.execute("SELECT scope, outcome, reason, set_by, set_ms FROM hitl_switches ORDER BY scope").fetchall()
    return [_switch(row) for row in rows]


def stopping(tx: Transaction, graph: str | None, thread: str) -> Switch | None:
    """What stops a thread, whatever it wants to call."""
    return next((one for one in listed(tx) if one.outcome == "deny" and one.concerns(None, graph, thread)), None)


def strictest(tx: Transaction, tool: str, graph: str | None, thread: str) -> Switch | None:
    """What is set for a call, if anything is: deny before ask."""
    found = [switch for switch in listed(tx) if switch.concerns(tool, graph, thread)]
    return min(found, key=lambda switch: switch.outcome != "deny") if found else None


def _switch(row: Any) -> Switch:
    return Switch(row[0], "ask" if row[1] == "ask" else "deny", row[2], row[3], from_ms(row[4]))
