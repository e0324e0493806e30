"""Leases on threads: one worker at a time resumes a thread; `awaited:KEY`: one asker at a time waits for an answer."""

from hitl_graph.ledger import owner
from hitl_graph.storage import Transaction

__all__ = ["claim", "leave", "left", "release"]


def claim(tx: Transaction, now_ms: int, thread_id: str, holder: str, lease_ms: int) -> bool:
    """Take or renew the lease on a thread; False while another living worker has it."""
    row = tx.execute("SELECT owner, until_ms FROM hitl_thread_claims WHERE thread_id = ?", (thread_id,)).fetchone()
    if row is not None and row[0] != holder:
        dead = owner.is_dead(row[0].partition("|")[0])
        if dead is False or (dead is None and now_ms < row[1]):
            return False
    tx.execute(
        "INSERT INTO hitl_thread_claims (thread_id, owner, until_ms) VALUES (?,?,?)"
        " ON CONFLICT (thread_id) DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms",
        (thread_id, holder, now_ms + lease_ms),
    )
    return True


def release(tx: Transaction, thread_id: str, holder: str) -> None:
    """Give the lease back, if it is still held."""
    tx.execute("DELETE FROM hitl_thread_claims WHERE thread_id = ? AND owner = ?", (thread_id, holder))


def leave(tx: Transaction, thread_id: str, holder: str) -> None:
    """Give the lease back before the thread came to its next stop, so that anybody goes on with it."""
    tx.execute(
        "UPDATE hitl_thread_claims SET owner = '', until_ms = 0 WHERE thread_id = ? AND owner = ?", (thread_id, holder)
    )


def left(tx: Transaction, now_ms: int) -> list[str]:
    """The threads that a worker left, or in the middle of which it died."""
    found = []
    for thread_id, holder, until_ms in tx.execute(
        "SELECT thread_id, owner, until_ms FROM hitl_thread_claims WHERE thread_id NOT LIKE 'awaited:%'"
        " ORDER BY thread_id"
    ):
        dead = owner.is_dead(holder.partition("|")[0])
        if dead or (dead is None and now_ms >= until_ms):
            found.append(thread_id)
    return found
