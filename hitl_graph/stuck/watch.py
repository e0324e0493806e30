"""The detectors together: one score, raised once, let go when the run moves on, silent about what was answered."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import ValidationError

from hitl_graph.errors import WatchError
from hitl_graph.stuck.budget import Budget
from hitl_graph.stuck.confidence import LowConfidence
from hitl_graph.stuck.default import default_detectors
from hitl_graph.stuck.detector import Detector
from hitl_graph.stuck.evidence import SURE, Alarm, Answered, Evidence, Kind, Spent, key_of
from hitl_graph.stuck.reading import Reader, Step, text_of
from hitl_graph.stuck.telling import SUGGESTIONS, excerpt

__all__ = ["Patience", "Watch", "spent"]

Patience = Literal["low", "normal", "high"]
_PATIENCE: dict[Patience, float] = {"low": 0.75, "normal": 1.0, "high": 1.5}

# Hysteresis. An alarm is raised at the threshold; from then on each message without new evidence takes a part of the
# score away, and the alarm stands until the score has fallen to half of the threshold: three such messages.
_FADES, _RELEASE = 0.8, 0.5
_FRESH = 12  # so many messages back something was noticed lately
_AGAIN = 3.0  # answered evidence must have grown to so many times what was needed, at each answer anew
_ALMOST = 1e-9


class Watch:
    """Watches one history. What it says follows from the messages and the memory alone, so it may be thrown away.

    Args:
        patience: `low`, `normal` or `high`; or a number: how much evidence an alarm takes (1.0 is normal).
        detectors: What to look for; `default_detectors()` if not given. Add a budget with
            `detectors=[*default_detectors(), Budget(steps=50)]`.
        memory: What has been answered, as `watch.memory` gives it (models, or their plain dicts out of JSON).

    Raises:
        WatchError: An option makes no sense.
    """

    def __init__(
        self,
        patience: Patience | float = "normal",
        *,
        detectors: Iterable[Detector] | None = None,
        memory: Iterable[Answered | Mapping[str, Any]] = (),
    ) -> None:
        self.threshold = _threshold(patience)
        self.detectors = tuple(default_detectors() if detectors is None else detectors)
        for detector in self.detectors:
            if isinstance(detector, type) or not isinstance(detector, Detector):
                raise WatchError(f"detectors= takes detectors, such as Budget(steps=50), not {detector!r:.80}")
        try:
            self._memory = [Answered.model_validate(one) for one in memory]
        except ValidationError as exc:
            raise WatchError(f"memory= takes what watch.memory gave: {exc}") from exc
        self._seen: list[BaseMessage] = []
        self._begin(())

    @property
    def memory(self) -> tuple[Answered, ...]:
        """What has been answered; `[one.model_dump() for one in watch.memory]` is plain JSON."""
        return tuple(self._memory)

    def see(
        self,
        messages: Sequence[BaseMessage],
        *,
        error: BaseException | None = None,
        now: Spent | None = None,
        samples: Sequence[str] = (),
    ) -> Alarm | None:
        """Take in the messages that were not seen yet; the alarm that stands at the end of them, or None.

        An alarm stands until it is answered, or until the run has moved on for some messages. It stays the same object
        of the same index meanwhile.

        Args:
            messages: The whole history so far. If an older message was replaced or removed, all of it is read anew.
            error: What a node raised just now. It always raises an alarm.
            now: What the run has spent until now, for budgets on cost and wall time.
            samples: Several answers of the model to the same question, for `LowConfidence`.
        """
        known = len(self._seen)
        before = list(messages[:known])
        if known == 0 or before != self._seen:  # the very same objects are compared at the speed of a pointer
            self._begin(messages)
            known = 0
        else:
            self._seen = before  # equal, but perhaps other objects: those of the next call
        for index in range(known, len(messages)):
            self._take(messages, index)
        return self._with(self._momentary(error, now, samples), len(messages) - 1)

    def answered(self, alarm: Alarm) -> Answered:
        """A person has answered: patience is restored, counting begins afresh, and this evidence is not told again.

        It is told again only when, from here on, it has grown to three times what raises an alarm; after the next
        answer to nine times. Keep what is returned, or the whole of `memory`, with the run.
        """
        last = len(self._seen) - 1
        answer = Answered(
            index=last,
            keys=tuple(sorted({*alarm.keys, *(one.key for one in alarm.evidence)})),
            message=_name(self._seen[last]) if self._seen else "",
        )
        self._memory.append(answer)
        self._restore(answer, last)
        return answer

    def _begin(self, messages: Sequence[BaseMessage]) -> None:
        """Forget everything but the memory, whose places are looked up in these messages."""
        self._seen = []
        self._reader = Reader()
        self._muted: list[tuple[int, Answered]] = []
        self._start(-1)
        names: dict[str, int] | None = None
        for answer in self._memory:
            place = answer.index
            if not (0 <= place < len(messages) and answer.message in ("", _name(messages[place]))):
                if names is None:
                    names = {_name(message): index for index, message in enumerate(messages)}
                place = names.get(answer.message, -1)
            self._muted.append((place, answer))
        self._places = {place for place, _ in self._muted}

    def _start(self, since: int) -> None:
        """Count afresh after this message."""
        self._since = since
        self._folds = [detector.start() for detector in self.detectors]
        self._lately: dict[str, tuple[int, Evidence]] = {}
        self._score = 0.0
        self._alarm: Alarm | None = None

    def _restore(self, answer: Answered, place: int) -> None:
        self._muted.append((place, answer))
        self._start(place)

    def _take(self, messages: Sequence[BaseMessage], index: int) -> None:
        message = messages[index]
        self._seen.append(message)
        found: list[Evidence] = []
        for event in self._reader.read(index, message):
            if isinstance(event, Step) and event.call.index <= self._since:
                continue  # done before the answer
            found += [said for fold in self._folds if (said := fold.see(event)) is not None]
        for one in sorted(found, key=lambda one: one.strength):
            self._lately[one.key] = (index, one)
        self._lately = {key: each for key, each in self._lately.items() if each[0] > index - _FRESH}
        strongest = max(map(self._strength, found), default=0.0)
        self._score = max(strongest, self._score * _FADES)
        if self._alarm is not None and self._score < self.threshold * _RELEASE:
            self._alarm = None
        if self._alarm is None and strongest >= self.threshold - _ALMOST:
            self._alarm = self._raise(messages, index)
        if index in self._places:
            self._start(index)

    def _strength(self, evidence: Evidence) -> float:
        answers = sum(evidence.key in answer.keys for place, answer in self._muted if place <= self._since)
        if answers and evidence.strength >= SURE:
            return 0.0
        return evidence.strength / _AGAIN**answers

    def _raise(self, messages: Sequence[BaseMessage], index: int) -> Alarm:
        told: dict[Kind, Evidence] = {}
        for _, one in sorted(self._lately.values(), key=lambda each: self._strength(each[1]), reverse=True):
            if self._strength(one) >= self.threshold * _RELEASE:
                told.setdefault(one.kind, one)
        evidence = tuple(told.values())
        first = min((place for one in evidence for place in one.indices), default=index)
        return Alarm(
            index=index,
            score=self._strength(evidence[0]),
            evidence=evidence,
            keys=tuple(self._lately),
            spent=spent(messages[first : index + 1]),
        )

    def _momentary(self, error: BaseException | None, now: Spent | None, samples: Sequence[str]) -> list[Evidence]:
        """What holds for this moment only, and is not in the messages."""
        index = len(self._seen) - 1
        found: list[Evidence | None] = []
        if error is not None:
            found.append(_failed(error, index))
        for detector in self.detectors:
            if now is not None and isinstance(detector, Budget):
                found.append(detector.now(now))
            if samples and isinstance(detector, LowConfidence):
                found.append(detector.samples(samples, index))
        return [one for one in found if one is not None and self._strength(one) >= self.threshold - _ALMOST]

    def _with(self, momentary: list[Evidence], index: int) -> Alarm | None:
        if not momentary:
            return self._alarm
        momentary.sort(key=self._strength, reverse=True)
        standing = self._alarm
        return Alarm(
            index=index,
            score=self._strength(momentary[0]),
            evidence=(*momentary, *(standing.evidence if standing else ())),
            keys=(*(one.key for one in momentary), *(standing.keys if standing else ())),
            spent=standing.spent if standing else Spent(),
        )


def spent(messages: Sequence[BaseMessage]) -> Spent:
    """What these messages have cost, as far as they say."""
    models = [message for message in messages if isinstance(message, AIMessage)]
    tokens = [message.usage_metadata["total_tokens"] for message in models if message.usage_metadata]
    return Spent(steps=len(models), tokens=sum(tokens) if tokens else None)


def _failed(error: BaseException, index: int) -> Evidence:
    return Evidence(
        kind="error",
        indices=(index,) if index >= 0 else (),
        sentence=f"The run failed with {type(error).__name__}: {excerpt(str(error)) or 'no message'}",
        strength=SURE,
        key=key_of("error", type(error).__name__, str(error), str(index)),
        came_back=(excerpt(f"{type(error).__name__}: {error}"),),
        suggestions=SUGGESTIONS["error"],
    )


def _name(message: BaseMessage) -> str:
    """The same for the same message in every process."""
    said = message.id or f"{text_of(message)}\0{getattr(message, 'tool_calls', '')}"
    return hashlib.sha256(f"{message.type}\0{said}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _threshold(patience: object) -> float:
    if isinstance(patience, str) and patience in _PATIENCE:
        return _PATIENCE[patience]
    if isinstance(patience, int | float) and not isinstance(patience, bool) and 0 < patience < float("inf"):
        return float(patience)
    words = ", ".join(map(repr, get_args(Patience)))
    raise WatchError(f"patience= takes {words} or a number above 0, not {patience!r:.80}")
