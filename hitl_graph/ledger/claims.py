"""Leases on threads: one worker at a time resumes a thread."""

from hitl_graph.ledger import owner
from hitl_graph.storage import Transaction

__all__ = ["claim", "release"]


def claim(tx: Transaction, now_ms: int, thread_id: str, holder: str, lease_ms: int) -> bool:
    """Take or renew the lease on a thread; False while another living worker has it."""
    row = tx.execute("SELECT owner, until_ms FROM thread_claims WHERE thread_id = ?", (thread_id,)).fetchone()
    if row is not None and row[0] != holder:
        dead = owner.is_dead(row[0].partition("|")[0])
        if dead is False or (dead is None and now_ms < row[1]):
            return False
    tx.execute(
        "INSERT INTO thread_claims (thread_id, owner, until_ms) VALUES (?,?,?)"
        " ON CONFLICT (thread_id) DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms",
        (thread_id, holder, now_ms + lease_ms),
    )
    return True


def release(tx: Transaction, thread_id: str, holder: str) -> None:
    """Give the lease back, if it is still held."""
    tx.execute("DELETE FROM thread_claims WHERE thread_id = ? AND owner = ?", (thread_id, holder))
