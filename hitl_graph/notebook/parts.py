"""Small widgets that the forms are made of."""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from hitl_graph.notebook import telling
from hitl_graph.notebook.telling import Line

__all__ = ["button", "on_change", "text"]


def button(label: str, press: Callable[[], object], **look: Any) -> Any:
    """A button as wide as its label.

    Args:
        label: Shown as text, whatever is in it.
        look: Other traits, such as `icon`, `tooltip`, `button_style`.
    """
    layout = {"width": "auto", **look.pop("layout", {})}
    made = widgets.Button(description=label, layout=layout, **look)

    def pressed(_: Any) -> None:
        press()

    made.on_click(pressed)
    return made


def on_change(widget: Any, tell: Callable[[], object]) -> None:
    """Be told of each new value."""

    def changed(_: Any) -> None:
        tell()

    widget.observe(changed, names="value")


def text(lines: list[Line], **look: Any) -> Any:
    """Lines as they are told, all escaped."""
    return widgets.HTML(telling.as_html(lines), **look)
