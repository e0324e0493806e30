"""hypothesis-jsonschema, which schemathesis needs, calls what hypothesis has renamed: `many.more()`.

The schemathesis that does without it wants a jsonschema-rs that LangGraph Server does not take. To be removed then.
"""

from typing import Any

from hypothesis.internal.conjecture import utils


class _Many(utils.many):
    """As it was: asked whether there is more, and never told that it is over."""

    _each: Any = None

    def more(self) -> bool:
        """Whether to draw another element."""
        if self._each is None:
            self.__enter__()
            self._each = iter(self)
        if next(self._each, self) is self:
            self.__exit__(None, None, None)
            return False
        return True


def install() -> None:
    """Give it back its name."""
    if not hasattr(utils.many, "more"):
        utils.many = _Many  # type: ignore[misc]
