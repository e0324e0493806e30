"""`Unsure`: ask people where it was not shown that the model is sure enough. Plain data, no I/O."""

import hashlib
import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import CellType, CodeType
from typing import Any, ClassVar

from hitl_graph.errors import LearningError
from hitl_graph.learning.certificate import Guarantee
from hitl_graph.policy import Call
from hitl_graph.policy.verdict import Outcome

__all__ = ["Unsure"]


@dataclass(frozen=True)
class Unsure:
    """For `Rule(..., "ask", when=Unsure(...))`, beside a rule that allows: asks where the model is not sure enough.

    With `guarantee=`, a call goes without asking only under a certificate that `DecisionLog` has issued from people's
    decisions, and a share of these is audited all the same; no certificate means that people are asked. With `below=`,
    a fixed limit decides: it promises nothing, as the same number means another error with each model.

    Args:
        score: How sure the model is of a `Call`, sync or async: any number, higher is surer. Log-probability,
            self-reported, agreement of several samples, a checker's verdict. One that fails or gives no number means
            "ask".
        guarantee: What is promised about what is decided automatically; an error of 5 % with a confidence of 90 %,
            unless there is a limit.
        below: People are asked if the score is less than this. In place of a guarantee.
        audit_rate: Which share of automatic decisions people look at, above 0 and up to 1.
        name: What people call it; rules whose decisions are alike may share one.
        group: Of a call: the promise holds within each group, such as each class that the model answers.
        prompt: What the model is told, or its version. A certificate holds for one prompt only.
        version: Of the score; unless given, a digest of the function's code.
        input: What the model had to go by, as plain JSON, to be kept as an example; the last message of the user
            unless given.
        reviewers: Who looks at audits: selectors as in a rule. Anybody, unless given.
        double_rate: Which share of what people are asked is asked of two, and of a third where they differ.
        patience: An audit that nobody has answered by then counts as wrong.
        secret: What draws are keyed with, at least 16 bytes; made and kept in the database unless given.

    Raises:
        LearningError: A rate that is none, a limit beside a guarantee, or a secret that is too short.
    """

    outcome: ClassVar[Outcome] = "ask"
    score: Callable[[Call], float | Awaitable[float]]
    below: float | None = None
    guarantee: Guarantee | None = None
    audit_rate: float = 0.05
    name: str = "default"
    group: Callable[[Call], Any] | None = None
    prompt: str | None = None
    version: str | None = None
    input: Callable[[Call], Any] | None = None
    reviewers: tuple[str, ...] = ()
    double_rate: float = 0.0
    patience: timedelta = timedelta(days=7)
    secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.score):
            raise LearningError(f"score= takes a function of the call, not {self.score!r:.80}")
        if self.below is not None and self.guarantee is not None:
            raise LearningError("below= is a fixed limit, guarantee= finds one that keeps a promise: pass one of them")
        if self.below is None and self.guarantee is None:
            object.__setattr__(self, "guarantee", Guarantee())
        if not 0 < self.audit_rate <= 1:
            raise LearningError(
                f"audit_rate={self.audit_rate!r} is above 0 and up to 1: without audits nobody would notice a drift"
            )
        if not 0 <= self.double_rate <= 1:
            raise LearningError(f"double_rate={self.double_rate!r} is a share, from 0 to 1")
        if not self.patience > timedelta(0):
            raise LearningError(f"patience={self.patience!r} is a duration")
        if self.secret is not None and len(self.secret) < 16:
            raise LearningError(f"a secret of {len(self.secret)} bytes can be guessed: pass at least 16")
        if not self.name or not isinstance(self.name, str):
            raise LearningError(f"name={self.name!r} is a text")
        if isinstance(self.reviewers, str):
            raise LearningError(f"reviewers= takes a list of selectors, not {self.reviewers!r}")
        object.__setattr__(self, "reviewers", tuple(self.reviewers))

    def __call__(self, call: Call) -> bool:
        """Whether to ask, where no ledger can tell of a certificate: always. Nodes look for themselves."""
        return True

    @property
    def told(self) -> str:
        """For an explanation."""
        return f"Unsure({self.name!r})"

    @property
    def binding(self) -> str:
        """Digest of prompt, score and groups (16 hex digits): with another one, a certificate does not hold."""
        made_of = f"{self.prompt or ''}\0{self.version if self.version is not None else _code(self.score)}"
        if self.group is not None:
            made_of += f"\0{_code(self.group)}"
        return hashlib.sha256(made_of.encode()).hexdigest()[:16]

    def is_sure(self, score: float | None, threshold: float) -> bool:
        """Whether a score reaches a threshold. None and what is no finite number do not."""
        return score is not None and math.isfinite(score) and score >= threshold


def _code(function: Callable[..., Any]) -> str:
    """A digest of what a function does, as far as its code tells: the same in each process with one Python.

    What it was made with belongs to it: default values, what it closes over, what `partial` gives it. Of objects only
    their type is told: `version=` tells the rest.
    """
    if isinstance(function, partial):
        given = [*function.args, *(part for pair in sorted(function.keywords.items()) for part in pair)]
        return f"partial\0{_code(function.func)}\0{[_value(one) for one in given]}"
    target = function if inspect.isroutine(function) else type(function).__call__
    plain = inspect.unwrap(target)
    code = getattr(plain, "__code__", None)
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"
    if code is None:
        return name
    given = [*(getattr(plain, "__defaults__", None) or ()), *(getattr(plain, "__kwdefaults__", None) or {}).items()]
    closed = [_cell(cell) for cell in getattr(plain, "__closure__", None) or ()]
    return f"{name}\0{_told(code)}\0{[_value(one) for one in given]}\0{closed}"


def _cell(cell: CellType) -> str:
    try:
        value = cell.cell_contents
    except ValueError:  # it is not filled yet
        return ""
    code = getattr(value, "__code__", None)  # a function may close over itself
    return _value(value) if code is None else f"{value.__qualname__}\0{_told(code)}"


def _value(value: object) -> str:
    if inspect.isroutine(value) or isinstance(value, partial):
        return _code(value)
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}{[_value(one) for one in value]}"
    if value is None or isinstance(value, str | bytes | int | float):
        return repr(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _told(constant: object) -> str:
    if isinstance(constant, CodeType):
        constants = [_told(one) for one in constant.co_consts]
        return repr((constant.co_code, constants, constant.co_names, constant.co_varnames))
    if isinstance(constant, frozenset):  # its order is another one in each process
        return repr(sorted(map(_told, constant)))
    return repr(constant)
