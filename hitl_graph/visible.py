"""Text that hides nothing: what an agent wrote is not trusted to look like what it is. No I/O."""

import unicodedata

__all__ = ["hides", "visible"]

_HIDING = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}  # control, format (bidi, zero width), private, surrogates, separators


def visible(text: str, keep: str = "") -> str:
    r"""The text with everything that a terminal would obey or not show as an escape, such as `\x1b` or `\u202e`."""
    if text.isascii() and text.isprintable():  # most texts, and a hundred times faster
        return text
    return "".join(
        c if c in keep or not hides(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def hides(c: str) -> bool:
    """Whether a character is obeyed, or not seen at all."""
    return unicodedata.category(c) in _HIDING or "\ufe00" <= c <= "\ufe0e" or "\U000e0000" <= c <= "\U000e0fff"
