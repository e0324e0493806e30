"""`DecisionLog`: what people decided, as examples; what follows from it for what is decided automatically.

Labels are read in the order of routing, and only those of the uniform sample certify: everything that was asked while
nothing was automatic, and the audits since. What people decided before a certificate was suspended does not count
for the next one.
"""

import hashlib
import hmac
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import JsonValue

from hitl_graph.errors import LearningError
from hitl_graph.learning.agreement import Agreement, interval
from hitl_graph.learning.concluding import Found, calibrated, calibrated_each, updated
from hitl_graph.learning.examples import Example, Split
from hitl_graph.learning.export import Exported, export
from hitl_graph.learning.health import Health, health
from hitl_graph.learning.labelling import Candidate, picked, question
from hitl_graph.learning.reading import examples
from hitl_graph.learning.sample import said, source_of
from hitl_graph.learning.standing import Overview, overview
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import Ledger, certificates, requests, routing
from hitl_graph.ledger.routing import Routed, Source
from hitl_graph.model import Request, canonical, from_ms
from hitl_graph.steps import arun, blocking
from hitl_graph.storage import Transaction

__all__ = ["DecisionLog"]

T = TypeVar("T")


class DecisionLog:
    """Every decision of a ledger, and what is concluded from it.

    Args:
        ledger: Of the checkpointer, or the one that was given to the nodes.
        checkpointer: Of the threads, to read the messages before a call as the input of examples.
    """

    def __init__(self, ledger: Ledger, *, checkpointer: BaseCheckpointSaver[Any] | None = None) -> None:
        self.ledger = ledger
        self.checkpointer = checkpointer

    def examples(self, *, thread_id: str | None = None) -> Iterator[Example]:
        """Every approval and every review, and every automatic decision, oldest first.

        Args:
            thread_id: Only of this thread.
        """
        return examples(self.ledger, self.checkpointer, thread_id=thread_id)

    def export(
        self, format: str, path: str | os.PathLike[str], *, split: Split | None = None, overwrite: bool = False
    ) -> Exported:
        """Write what was decided into a file to train, evaluate or label with; see `hitl_graph.learning.export`.

        Raises:
            LearningError: There is no such format, its package is missing, or the file exists.
        """
        return export(self.examples(), format, path, split=split, overwrite=overwrite)

    def calibrate(self, unsure: Unsure, *, before: datetime | None = None) -> Found:
        """Looks for the lowest score from which on nobody has to be asked, and puts the certificate in force.

        May be tried again with more labels: all tries together mislead no more often than was promised, the first one
        having the largest part of it. But when to try must not depend on how the labels look: see `update`.

        Args:
            before: Only calls that were routed before. A question that nobody has answered counts as wrong, so leave
                out those to which people have not come yet.

        Raises:
            LearningError: The promise is for each group: see `calibrate_each`. Or it has a fixed limit.
        """
        _check(unsure, grouped=False, before=before)
        return self._write(partial(calibrated, before=before), unsure)

    async def acalibrate(self, unsure: Unsure, *, before: datetime | None = None) -> Found:
        """As `calibrate`."""
        _check(unsure, grouped=False, before=before)
        return await self._awrite(partial(calibrated, before=before), unsure)

    def calibrate_each(self, unsure: Unsure, *, before: datetime | None = None) -> Mapping[str, Found]:
        """As `calibrate`, for each group of `Unsure(group=...)` that was met: by canonical JSON of the group.

        The confidence is of all groups that were met by then at once.

        Raises:
            LearningError: There are no groups.
        """
        _check(unsure, grouped=True, before=before)
        return self._write(partial(calibrated_each, before=before), unsure)

    async def acalibrate_each(self, unsure: Unsure, *, before: datetime | None = None) -> Mapping[str, Found]:
        """As `calibrate_each`."""
        _check(unsure, grouped=True, before=before)
        return await self._awrite(partial(calibrated_each, before=before), unsure)

    def update(self, unsure: Unsure) -> Found:
        """Takes in what people have decided since, in the order of routing; may be called after every decision.

        The promise is about all of the time together, however often one looks. Use this or `calibrate`: each promises
        for itself.

        Raises:
            LearningError: The promise is for each group, or it has a fixed limit.
        """
        _check(unsure, grouped=False)
        return self._write(updated, unsure)

    async def aupdate(self, unsure: Unsure) -> Found:
        """As `update`."""
        _check(unsure, grouped=False)
        return await self._awrite(updated, unsure)

    def health(self, unsure: Unsure) -> Health:
        """How it goes; first takes the certificate back if the audits speak against it.

        Raises:
            LearningError: The promise is for each group, or it has a fixed limit.
        """
        _check(unsure, grouped=False)
        return self._write(health, unsure)[""]

    async def ahealth(self, unsure: Unsure) -> Health:
        """As `health`."""
        _check(unsure, grouped=False)
        return (await self._awrite(health, unsure))[""]

    def health_each(self, unsure: Unsure) -> Mapping[str, Health]:
        """As `health`, for each group that was met: by canonical JSON of the group.

        Raises:
            LearningError: There are no groups.
        """
        _check(unsure, grouped=True)
        return self._write(health, unsure)

    async def ahealth_each(self, unsure: Unsure) -> Mapping[str, Health]:
        """As `health_each`."""
        _check(unsure, grouped=True)
        return await self._awrite(health, unsure)

    def overview(self, name: str | None = None) -> list[Overview]:
        """How it goes with all that was routed, as far as the database tells without the rules. Changes nothing.

        Args:
            name: Only of the `Unsure` of this name.
        """
        return self.ledger.read(overview, name)

    async def aoverview(self, name: str | None = None) -> list[Overview]:
        """As `overview`."""

        def steps() -> Any:
            return (yield blocking(self.overview, name))

        found: list[Overview] = await arun(steps())
        return found

    def suspend(self, unsure: Unsure | str, *, reason: str, by: str) -> int:
        """Takes its certificates back by hand: everything is asked again. Returns how many were valid.

        Args:
            unsure: The `Unsure`, or its name.

        Raises:
            LearningError: It is not said why, or by whom.
        """
        if not reason.strip() or not by.strip():
            raise LearningError("say why, and who does it: reviewers are told; nothing was suspended")
        name = unsure if isinstance(unsure, str) else unsure.name

        def work(tx: Transaction) -> int:
            valid = [one for one in certificates.listed(tx, name) if one.state == "valid"]
            why = f"{by}: {reason}"
            return sum(certificates.end(tx, self.ledger.now_ms(), one, "suspended", why, actor=by) for one in valid)

        return self.ledger.write(work)

    def choose(
        self,
        pool: Sequence[Candidate],
        budget: int,
        *,
        topic: str = "labels",
        uniform: float = 0.2,
        reviewers: Sequence[str] = (),
        schema: dict[str, JsonValue] | None = None,
        unsure: Unsure | None = None,
        model: str | None = None,
    ) -> list[Request]:
        """Asks people about some items of a pool: most of them where the model is unsure, some at random.

        The requests are in the inbox; nothing waits for them. The same topic and pool give the same choice.

        Args:
            pool: Items without labels.
            budget: How many people look at.
            topic: What it is about, for people; another topic is another choice.
            uniform: The share of the budget that is drawn at random. Only these may certify.
            reviewers: Selectors of who is asked; anybody unless given.
            schema: JSON Schema of the outputs, for edits.
            unsure: Where the pool is a random sample of what its rule will decide: the random part then counts for its
                certificate.
            model: Name of the model that made the outputs, as it gives it in its messages. The labels count for this
                model only.

        Raises:
            LearningError: Names that are not unique, or numbers that make no sense; or it is not said for which model
                and group labels are to count.
        """
        if unsure is not None and unsure.group is not None:
            raise LearningError(f"{unsure.told} promises for each group, and an item of a pool has none; leave it out")

        def work(tx: Transaction) -> list[Request]:
            now_ms, asked = self.ledger.now_ms(), list[Request]()
            if unsure is not None and model is None and any(one.model for one in source_of(tx, unsure)):
                raise LearningError(f"model= is missing: the labels would not count for the model of {unsure.told}")
            secret = (unsure.secret if unsure else None) or routing.secret(tx)
            for candidate, chosen in picked(pool, budget, hmac.digest(secret, topic.encode(), "sha256"), uniform):
                request = question(topic, candidate, chosen, reviewers=reviewers, schema=schema)
                requests.open_request(tx, now_ms, request, checkpoint_id=None, task_id=None, parked=1)
                if unsure is not None and chosen.propensity is not None:
                    routing.record(tx, _sampled(unsure, candidate, request, chosen.propensity, model, now_ms))
                asked.append(request)
            return asked

        return self.ledger.write(work)

    def agreement(self) -> Agreement:
        """Krippendorff's alpha of all who were asked about the same, with a bootstrap interval.

        Approving is one answer, each different edit one of its own, and a rejection another.
        """
        votes = [_answers(one) for one in self.examples() if len(one.votes) > 1]
        return interval(votes)

    def _write(self, work: Callable[[Transaction, int, Unsure], T], unsure: Unsure) -> T:
        return self.ledger.write(work, self.ledger.now_ms(), unsure)

    async def _awrite(self, work: Callable[[Transaction, int, Unsure], T], unsure: Unsure) -> T:
        def steps() -> Any:
            return (yield blocking(partial(self._write, work, unsure)))

        found: T = await arun(steps())
        return found


def _sampled(
    unsure: Unsure, candidate: Candidate, request: Request, propensity: float, model: str | None, now_ms: int
) -> Routed:
    score = candidate.score
    source = Source(unsure.name, unsure.binding, "" if model is None else hashlib.sha256(model.encode()).hexdigest())
    # whatever the topic, an item is one label: that it was asked about twice tells nothing new
    item = canonical([source.name, source.binding, source.model, candidate.name, candidate.input, candidate.output])
    return Routed(
        hashlib.sha256(f"label\0{item}".encode()).hexdigest()[:32], request.thread_id, source,
        "label", candidate.input, candidate.output, score if math.isfinite(score) else None,
        route="audit", propensity=propensity, least=propensity, drawn=0.0, certificate=None, request_id=request.id,
        at=from_ms(now_ms),
    )  # fmt: skip


def _check(unsure: Unsure, *, grouped: bool, before: datetime | None = None) -> None:
    if before is not None and not (isinstance(before, datetime) and before.tzinfo):
        raise LearningError(f"before={before!r} is a datetime with a time zone, such as datetime.now(UTC)")
    if unsure.guarantee is None:
        raise LearningError(f"{unsure.told} has a fixed limit, below={unsure.below}: give it a guarantee= instead")
    if not grouped and unsure.group is not None:
        raise LearningError(f"{unsure.told} promises something for each group: use calibrate_each, health_each")
    if grouped and unsure.group is None:
        raise LearningError(f"{unsure.told} has no groups: give it group=, or use calibrate")


def _answers(example: Example) -> list[str]:
    return [said(example.output, vote.decision) for vote in example.votes]
