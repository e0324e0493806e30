"""Options of detectors, checked when they are given."""

from hitl_graph.errors import WatchError

__all__ = ["at_least", "positive"]


def at_least(options: object, least: int, name: str) -> None:
    """Refuse an option that is no whole number of at least so much."""
    value = getattr(options, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise WatchError(
            f"{type(options).__name__}({name}=...) takes a whole number from {least} on, not {value!r:.80}"
        )


def positive(options: object, name: str) -> None:
    """Refuse an option that is neither None nor a number above 0."""
    value = getattr(options, name)
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise WatchError(f"{type(options).__name__}({name}=...) takes a number above 0 or None, not {value!r:.80}")
