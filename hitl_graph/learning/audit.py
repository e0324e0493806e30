"""Which automatic decisions people look at all the same. A keyed draw: repeatable, and nobody can pick."""

import hmac
from hashlib import sha256

from hitl_graph.errors import LearningError

__all__ = ["draw", "is_audited"]


def draw(secret: bytes, name: str) -> float:
    """A number in [0, 1) that belongs to a name: the same in every process, and not to be foreseen without the secret.

    Args:
        secret: At least 16 random bytes, the same for all processes; whoever knows it knows what is audited.
        name: What is drawn for, such as the id of a request. What a person or a model can choose freely is no good
            name.

    Raises:
        LearningError: The secret is too short to be one.
    """
    if len(secret) < 16:
        raise LearningError(
            f"a secret of {len(secret)} bytes can be guessed: pass at least 16, from secrets.token_bytes"
        )
    return (int.from_bytes(hmac.digest(secret, name.encode(), sha256)[:8]) >> 11) / 2**53


def is_audited(secret: bytes, name: str, rate: float) -> bool:
    """Whether people look at this automatic decision too.

    Args:
        secret: As for `draw`.
        name: As for `draw`.
        rate: Which share is audited, above 0 and up to 1. It is the propensity of the labels that come of it.

    Raises:
        LearningError: The rate is no such share, or the secret is too short.
    """
    if not 0 < rate <= 1:
        raise LearningError(f"a rate of {rate} audits nothing or more than everything: it is above 0 and up to 1")
    return draw(secret, name) < rate
