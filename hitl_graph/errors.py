"""The errors of hitl_graph, all under one root.

    HitlError
    ├── PolicyError                 a rule or a policy that cannot be built (also ValueError)
    │   └── PolicyFileError         a policy file with mistakes, each with its line
    ├── DirectoryError              a directory of people that cannot be read (also ValueError)
    ├── WatchError                  options of a detector or a watch that make no sense (also ValueError)
    ├── EscalationError             an EscalationNode that makes no sense, or cannot go where it shall (also ValueError)
    ├── ConversationError           the same of a UserProxyNode or an end of a conversation (also ValueError)
    ├── RequestError
    │   ├── UnknownRequestError     no such request, or an ambiguous id prefix (also LookupError)
    │   ├── AlreadyDecidedError     somebody decided first
    │   │   └── AlreadyVotedError   this person has answered, and it waits for others
    │   ├── NotEntitledError        this person may not decide it (also PermissionError)
    │   ├── ClaimedError            somebody else is at it
    │   ├── QuorumMissingError      the answer counts, and others have to agree before anything happens
    │   ├── StaleRequestError       the request is no longer asked, or is not what was shown
    │   ├── InvalidDecisionError    a word, an edit or an answer that does not fit (also ValueError)
    │   └── UnansweredError         a question outside of a graph that nobody answered, or that somebody declined
    ├── DraftError                  a review that finds no draft, or nowhere to keep its feedback (also ValueError)
    ├── GrantError                  a standing permission that cannot be given (also ValueError)
    ├── UnknownGrantError           no such standing permission, or an ambiguous id (also LookupError)
    ├── SwitchError                 a switch that cannot be set (also ValueError)
    ├── CredentialError             a login link, session or token that cannot be issued or used (also ValueError)
    ├── LedgerMissingError          a node that found no ledger to write to
    ├── PermitError                 an action without a valid permit; it did not run
    ├── ArgumentsError              a call whose arguments people cannot be shown; it did not run (also TypeError)
    ├── RejectedError               a call that was refused, or a question that was declined
    ├── EffectError
    │   ├── OutcomeUnknownError     an action may or may not have happened
    │   └── EffectBusyError         another process has been running the action for too long to wait
    ├── ChatError                   a message that cannot be taken while its thread waits
    ├── ThreadBusyError             another run goes on with the thread
    ├── DeliveryError               a decision that the worker cannot hand to the graph
    ├── LearningError               labels, scores or settings that learning cannot use (also ValueError)
    ├── NotebookError               something that a notebook cannot do, or not so
    └── StorageError
        ├── DatabaseClosedError     used after close()
        ├── DatabaseCorruptError    not a hitl-graph database, or damaged
        ├── DatabaseTooNewError     written by a newer hitl-graph
        └── DatabaseWriteError      read-only file, full disk, locked for too long

Each message says what happened, to what, and what to do. Data is on attributes. All of them can be pickled.
"""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AlreadyDecidedError",
    "AlreadyVotedError",
    "ArgumentsError",
    "ChatError",
    "ClaimedError",
    "ConversationError",
    "CredentialError",
    "DatabaseClosedError",
    "DatabaseCorruptError",
    "DatabaseTooNewError",
    "DatabaseWriteError",
    "DeliveryError",
    "DirectoryError",
    "DraftError",
    "EffectBusyError",
    "EffectError",
    "EscalationError",
    "GrantError",
    "HitlError",
    "InvalidDecisionError",
    "LearningError",
    "LedgerMissingError",
    "NotEntitledError",
    "NotebookError",
    "OutcomeUnknownError",
    "PermitError",
    "PolicyError",
    "PolicyFileError",
    "QuorumMissingError",
    "RejectedError",
    "RequestError",
    "StaleRequestError",
    "StorageError",
    "SwitchError",
    "ThreadBusyError",
    "UnansweredError",
    "UnknownGrantError",
    "UnknownRequestError",
    "WatchError",
]


class HitlError(Exception):
    """Base of every error that this library raises."""


class PolicyError(HitlError, ValueError):
    """A rule or a policy that cannot be built."""


class PolicyFileError(PolicyError):
    """A policy file that cannot be read, or that has mistakes.

    Attributes:
        problems: All of them, each as `policy.toml:12: rules[2].quorum: ...`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class DirectoryError(HitlError, ValueError):
    """A directory of people that cannot be read, or that makes no sense."""


class WatchError(HitlError, ValueError):
    """A detector or a watch that cannot be built from these options."""


class EscalationError(HitlError, ValueError):
    """An EscalationNode that cannot be built, or that cannot go where it shall."""


class ConversationError(HitlError, ValueError):
    """A UserProxyNode or a termination condition that cannot be built, or that cannot go where it shall."""


class RequestError(HitlError):
    """Something is wrong with one request or with an answer to it."""

    def __init__(self, request_id: str, message: str) -> None:
        self.request_id = request_id
        super().__init__(request_id, message)

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.args[1]}"


class UnknownRequestError(RequestError, LookupError):
    """No request has this id, or several begin with it."""


class AlreadyDecidedError(RequestError):
    """Another answer was recorded first; this one was not."""

    def __init__(self, request_id: str, decided_by: str, word: str) -> None:
        self.decided_by, self.word = decided_by, word
        RequestError.__init__(
            self,
            request_id,
            f"already decided: {word} by {decided_by}. Your answer was not recorded; look at the request again",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request_id, self.decided_by, self.word)


class AlreadyVotedError(AlreadyDecidedError):
    """This person, or whose vote they hold, has answered already, and nobody counts twice. It waits for others."""

    def __init__(self, request_id: str, decided_by: str, word: str) -> None:
        AlreadyDecidedError.__init__(self, request_id, decided_by, word)
        told = f"{decided_by} has answered it already ({word}), and nobody counts twice; it still waits for others"
        self.args = (request_id, f"{told}. This answer was not recorded")


class NotEntitledError(RequestError, PermissionError):
    """This person may not do this with the request. Nothing was recorded."""

    def __init__(self, request_id: str, message: str) -> None:
        RequestError.__init__(self, request_id, message)


class ClaimedError(RequestError):
    """Somebody else has claimed the request, for a while. Nothing was recorded."""


class QuorumMissingError(RequestError):
    """The answer was recorded as a vote; others have to agree before it is the decision. The question stays."""


class StaleRequestError(RequestError):
    """The request is not asked any more, or is not the one that was shown."""


class InvalidDecisionError(RequestError, ValueError):
    """An answer that this request does not accept. Nothing was recorded; it can be answered again."""


class UnansweredError(RequestError):
    """Nobody answered a question in time, or somebody declined to; there is no answer to go on with."""


class DraftError(HitlError, ValueError):
    """A review found no draft in the state, or nowhere to keep what the writer shall be told."""


class GrantError(HitlError, ValueError):
    """A standing permission that cannot be given. Nothing was recorded."""


class UnknownGrantError(HitlError, LookupError):
    """No standing permission has this id, or several begin with it."""


class SwitchError(HitlError, ValueError):
    """A switch that cannot be set or lifted. Nothing was recorded."""


class CredentialError(HitlError, ValueError):
    """A login link, session or token that cannot be issued, found or used."""


class LedgerMissingError(HitlError):
    """A node found no ledger."""


class PermitError(HitlError):
    """An action had no valid permit in the ledger. It did not run."""


class ArgumentsError(HitlError, TypeError):
    """Arguments that are not plain JSON, or that do not fit the function. Nobody was asked and nothing ran."""


class RejectedError(HitlError):
    """A call that did not run, because a person, a deadline, the policy or a switch refused it; or a declined question.

    Attributes:
        message: What the person said, or why it is not permitted. Empty if nothing was said.
        action: What did not run; None for a question.
        request_id: Of the request that was answered, by which the ledger knows who did; None if nobody was asked.
    """

    def __init__(self, told: str, message: str = "", action: str | None = None, request_id: str | None = None) -> None:
        self.message, self.action, self.request_id = message, action, request_id
        super().__init__(told, message, action, request_id)

    def __str__(self) -> str:
        return str(self.args[0])


class EffectError(HitlError):
    """An action could not be run under its permit."""


class OutcomeUnknownError(EffectError):
    """An action was started and nothing is known of its end. It was not run again."""


class EffectBusyError(EffectError):
    """Another process runs this action right now."""


class ChatError(HitlError):
    """A message that cannot be taken as its sender wanted while the thread waits. Nothing was recorded."""

    def __init__(self, thread_id: str, request_ids: tuple[str, ...], message: str) -> None:
        self.thread_id, self.request_ids = thread_id, request_ids
        super().__init__(thread_id, request_ids, message)

    def __str__(self) -> str:
        return f"thread {self.thread_id}: {self.args[2]}"


class ThreadBusyError(HitlError):
    """Another run goes on with the thread; this one did nothing."""

    def __init__(self, thread_id: str, claimed: str) -> None:
        self.thread_id = thread_id
        self.claimed = claimed
        super().__init__(
            f"thread {thread_id} is being resumed by another run ({claimed.partition('|')[0]}), which has not ended;"
            " its answer counts, and this run did nothing. Look at the thread again when that run is done"
        )

    def __reduce__(self) -> tuple[type["ThreadBusyError"], tuple[str, str]]:
        return type(self), (self.thread_id, self.claimed)


class DeliveryError(HitlError):
    """A decision could not be handed to the graph; it stays recorded."""


class LearningError(HitlError, ValueError):
    """Labels, scores or settings that learning cannot use. Nothing was certified."""


class NotebookError(HitlError):
    """Something that cannot be done in a notebook, or not so. Nothing was recorded."""


class StorageError(HitlError):
    """The database could not be used."""


class DatabaseClosedError(StorageError):
    """The database was used after it was closed."""


class DatabaseCorruptError(StorageError):
    """The file is not a hitl-graph database, or it is damaged."""


class DatabaseTooNewError(StorageError):
    """The database was written by a newer version of hitl-graph."""


class DatabaseWriteError(StorageError):
    """A write could not be stored. Nothing of it was."""
