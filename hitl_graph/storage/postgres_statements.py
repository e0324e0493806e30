"""Single statements, each a transaction of its own; many of them travel together."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import cast

import psycopg

from hitl_graph.errors import StorageError
from hitl_graph.storage import Statement
from hitl_graph.storage.batching import Job
from hitl_graph.storage.postgres_attempts import ATTEMPTS, is_stale, may_pass, pause, unknown_outcome
from hitl_graph.storage.postgres_errors import explain, is_conflict
from hitl_graph.storage.postgres_replies import NOT_DURABLE, Adapter, Command, Reply, adapter
from hitl_graph.storage.postgres_session import Session

__all__ = ["run_statements"]


def run_statements(connection: Callable[[], AbstractContextManager[Session]], jobs: Sequence[Job], place: str) -> None:
    """Run the statements of jobs in one round trip and one commit; if one of them fails, each for itself.

    Sets of each job `value`, a `Reply` whose rows are loaded, or `error`.
    """
    adapt = adapter()
    waiting = list[_Sent]()
    for job in jobs:
        sql, parameters = cast(Statement, job.work)
        try:
            waiting.append(_Sent(job, Command(sql, parameters, adapt), adapt))
        except Exception as error:
            _fail(job, error, place)
    together = len(waiting) > 1
    for attempt in range(1, ATTEMPTS + 1):
        if not waiting:
            return
        try:
            with connection() as session:
                failure = _exchange(session, waiting, together=together)
                lost = session.broken
                session.broken = lost or is_stale(failure)
        except (psycopg.Error, StorageError) as error:
            for sent in waiting:
                _fail(sent.job, error, place)
            return
        except BaseException as error:  # Ctrl-C in one thread; the others are told what is known
            for sent in waiting:
                _fail(sent.job, unknown_outcome(place, error), place)
            raise
        nothing_stored = together and any(sent.reply.failure for sent in waiting)
        again = list[_Sent]()
        for sent in waiting:
            trouble = sent.reply.failure or (failure if lost or together else None)
            if trouble is None:
                sent.reply.load()
                sent.job.value = sent.reply
                sent.job.done = True
            elif lost and not (nothing_stored or sent.reply.failure or sent.changes_nothing):
                _fail(sent.job, unknown_outcome(place, trouble), place)
            elif attempt < (2 if lost else ATTEMPTS) and (lost or together or may_pass(trouble)):
                again.append(_Sent(sent.job, sent.command, adapt))
            else:
                _fail(sent.job, trouble, place)
        if is_conflict(failure) or (lost and again):
            pause(attempt)
        waiting, together = again, together and lost


class _Sent:
    """A statement under way."""

    __slots__ = ("command", "job", "reply")

    def __init__(self, job: Job, command: Command, adapt: Adapter) -> None:
        self.job = job
        self.command = command
        self.reply = Reply(adapt, _nothing)

    @property
    def changes_nothing(self) -> bool:
        return self.command.sql.lstrip()[:6].upper() == "SELECT"


def _exchange(session: Session, batch: Sequence[_Sent], *, together: bool) -> psycopg.Error | None:
    durable = together and any(sent.job.durable for sent in batch)
    try:
        if together and not durable:
            session.send(NOT_DURABLE, None)
        for sent in batch:
            if not together and not sent.job.durable:
                session.send(NOT_DURABLE, None)
            session.send(sent.command, sent.reply)
            if not together:
                session.sync()
        if together:
            session.sync()
        session.wait()
    except psycopg.Error as error:
        return error
    return None


def _fail(job: Job, error: Exception, place: str) -> None:
    """A fresh error for each job: several may fail for the same reason."""
    explained = explain(error, place) if isinstance(error, psycopg.Error) else copy.copy(error)
    if explained is not error:
        explained.__cause__ = error
    job.error = explained
    job.done = True


def _nothing() -> None: ...
