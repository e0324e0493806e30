"""Labels that were made elsewhere, as decisions.

Each goes through the ledger as any other answer does: whoever labelled has to be entitled, what they saw has to be what
is asked now, and of two answers one counts. Nothing is guessed: what is not understood is refused, and says why.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue, ValidationError

from hitl_graph.errors import HitlError, LearningError, StorageError
from hitl_graph.learning import formats
from hitl_graph.learning.formats.labels import Label, Refused, Unclear, checked
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Decision, Request, approve, canonical, edit, reject, respond
from hitl_graph.reviewers import ANONYMOUS, same

__all__ = ["Imported", "decision_of", "import_labels", "labelled"]

_ACCOUNT = re.compile(r"\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""A number of Label Studio, a UUID of Argilla: no name that anybody has with us."""


@dataclass(frozen=True)
class Imported:
    """What became of a file of labels.

    Attributes:
        decided: How many requests were decided by them.
        votes: How many are recorded, but wait for others who have to agree.
        unanswered: How many entries have no answer: nobody labelled them, or they were skipped.
        refused: What was not recorded, in the order of the file.
    """

    decided: int
    votes: int
    unanswered: int
    refused: tuple[Refused, ...]


def import_labels(
    ledger: Ledger,
    path: str | os.PathLike[str],
    format: str,
    *,
    names: Mapping[str, str] | None = None,
    reviewer: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Imported:
    """Record the labels of a file, each as the decision of whoever made it.

    One entry that is refused keeps no other from being recorded; recorded before an error of the database, a label
    stays. A file may be imported again: what is decided is refused then.

    Args:
        ledger: Where the requests are.
        path: Of the JSON export of Label Studio, of `records.to_list(flatten=True)` of Argilla as JSON, or of the
            completed JSON lines.
        format: `label-studio`, `argilla` or `jsonl`.
        names: Who is meant by a name of the file, such as the number of an annotator.
        reviewer: Whose labels those are that name nobody; without one, they are refused.
        progress: Told now and then how many labels are done.

    Raises:
        LearningError: There is no such format, or the file cannot be read.
    """
    decided, votes, unanswered, refused = 0, 0, 0, list[Refused]()
    for number, (where, label) in enumerate(labelled(path, format), 1):
        if label is None:
            unanswered += 1
        elif isinstance(label, Refused):
            refused.append(label)
        else:
            try:
                request = _record(ledger, label, _who(label, names or {}, reviewer), f"import:{format}")
            except Unclear as why:
                refused.append(Refused(where, label.request_id or None, str(why)))
            else:
                decided, votes = decided + (request.decision is not None), votes + (request.decision is None)
        if progress is not None:
            progress(number)
    return Imported(decided, votes, unanswered, tuple(refused))


def labelled(path: str | os.PathLike[str], format: str) -> Iterator[tuple[str, Label | Refused | None]]:
    """What a file of labels says: where each stands, and what it says; None where nobody answered. Records nothing.

    Raises:
        LearningError: There is no such format, or the file cannot be read.
    """
    chosen = formats.find(format, waiting=True)
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise LearningError(f"{path} cannot be read: {exc.strerror}") from exc
    return formats.labels(data, chosen)


def decision_of(label: Label, request: Request) -> Decision:
    """The decision that a label is, about this request.

    Raises:
        Unclear: It contradicts itself, or does not say what an edit or an answer has to say.
    """
    shown = request.draft if request.action is None else cast(JsonValue, request.action.args)
    output = label.output
    if isinstance(output, str) and label.is_typed and not isinstance(shown, str):
        output = checked(output)
    is_other = output is not None and canonical(output) != canonical(shown)
    comment = label.message if isinstance(label.message, str) else None
    if label.message is not None and comment is None and label.word != "respond":
        raise Unclear("its message is no text")
    if label.word == "approve":
        if is_other:
            raise Unclear("it approves another output than was shown; is it an edit?")
        return approve(comment)
    if label.word == "reject":
        return reject(comment or "")
    if label.word == "respond":
        if label.message is None or not str(label.message).strip():
            raise Unclear("it responds, and does not say what: the message is missing")
        return respond(label.message)
    if not is_other or output is None:
        raise Unclear("it edits, and changes nothing; is it an approval?")
    if not isinstance(output, str | dict | list):
        raise Unclear("it edits to what is neither a text, nor an object or a list")
    return edit(output, comment)


def _record(ledger: Ledger, label: Label, who: str, channel: str) -> Request:
    try:
        request = ledger.read(requests.get, label.request_id)
        if request is None:
            raise Unclear("there is no request with exactly this id")
        decision = decision_of(label, request)
        return ledger.decide(request.id, decision, reviewer=who, channel=channel, digest=label.digest)
    except StorageError:
        raise
    except ValidationError as exc:
        raise Unclear(exc.errors(include_url=False)[0]["msg"]) from exc
    except (HitlError, TypeError) as exc:  # canonical: what is no plain JSON
        raise Unclear(str(exc)) from exc


def _who(label: Label, names: Mapping[str, str], otherwise: str | None) -> str:
    if label.who is None:
        if otherwise is None:
            raise Unclear("it does not say who decided")
        return otherwise
    who = names.get(label.who, label.who)
    if label.who not in names and _ACCOUNT.fullmatch(who):
        raise Unclear(f"nobody said who {who} is: name the reviewer behind this account")
    if same(who, ANONYMOUS):
        raise Unclear("it was decided by nobody who is known")
    return who
