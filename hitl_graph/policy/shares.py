"""What a count says of the rate behind it."""

from math import exp, lgamma, log, log1p

__all__ = ["at_most"]


def at_most(found: int, of: int, confidence: float = 0.95) -> float:
    """The rate that would hardly have given so few: an exact upper bound (Clopper and Pearson 1934, one-sided).

    Args:
        found: How many there were,
        of: of so many, at least one.
        confidence: How often, at least, such a bound is right.

    Returns:
        From 0 to 1. For none of n it is about 3 / n.
    """
    if not 0 <= found <= of or not of or not 0 < confidence < 1:
        raise ValueError(f"{found} of {of} at a confidence of {confidence} says nothing")
    low, high = found / of, 1.0
    while found < of and high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _so_few(found, of, middle) > 1 - confidence else (low, middle)
    return high


def _so_few(found: int, of: int, rate: float) -> float:
    """How likely it is to find so few or fewer. `rate` is above `found / of`, so that fewer is ever less likely."""
    ways = lgamma(of + 1) - lgamma(found + 1) - lgamma(of - found + 1)
    term = exp(ways + found * log(rate) + (of - found) * log1p(-rate))
    total = term
    for number in range(found, 0, -1):
        term *= number / (of - number + 1) * (1 - rate) / rate
        total += term
        if term < 1e-15 * total:
            break
    return total
