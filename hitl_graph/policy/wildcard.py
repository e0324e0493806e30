"""`*` for anything, as in the specifiers of Claude Code."""

__all__ = ["fits"]


def fits(pattern: str, text: str) -> bool:
    """Whether the pattern fits the whole text. Nothing but `*` is special. In linear time, whatever a model sends."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
