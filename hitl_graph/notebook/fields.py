"""The fields of a form as widgets. What is typed is a text until the form reads it, so that no number is rounded."""

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from hitl_graph.form import Field, Filled, Form
from hitl_graph.notebook import parts
from hitl_graph.visible import visible

__all__ = ["Fields"]

_NAMES = {"given": "value", "null": "null", "missing": "not given"}
_LABEL = {"description_width": "130px"}
_WIDE = "min(100%, 720px)"


class Fields:
    """A form that people fill in.

    Args:
        form: Its fields and their values.
        whole: What a value without a name is called.
        on_change: Told whenever something was typed.
    """

    def __init__(self, form: Form, on_change: Callable[[], object], whole: str = "value") -> None:
        self.form, self._whole = form, whole
        self._inputs: dict[str, Any] = {}
        self._errors: dict[str, Any] = {}
        self._initial = form.submitted()
        rows = [self._row(field) for field in form.fields]
        self._errors[""] = widgets.HTML(layout={"display": "none"})
        self.box = widgets.VBox([*rows, self._errors[""]])
        for one in self._inputs.values():
            parts.on_change(one, on_change)

    @property
    def submitted(self) -> dict[str, str]:
        """What stands in the fields."""
        return {key: str(one.value if one.value is not None else "") for key, one in self._inputs.items()}

    @property
    def is_touched(self) -> bool:
        """Whether anything was typed or chosen."""
        return self.submitted != self._initial

    def read(self) -> Filled:
        """What was typed, with its types; what does not fit is said at its field."""
        filled = self.form.read(self.submitted)
        for key, label in self._errors.items():
            self._say(label, filled.errors.get(key, ""))
        return filled

    def undo(self) -> None:
        """Put everything back."""
        for key, one in self._inputs.items():
            one.value = self._initial[key]
        self.read()

    def disable(self, disabled: bool) -> None:
        """Nothing can be typed, or it can again."""
        for one in self._inputs.values():
            one.disabled = disabled

    def _row(self, field: Field) -> Any:
        if field.locked:
            return self._locked(field)
        self._inputs[field.key] = main = _input(field, self._whole)
        row = [main]
        if len(field.presences) > 1:
            options = [(_NAMES[presence], presence) for presence in field.presences]
            self._inputs[field.presence_key] = chosen = widgets.Dropdown(
                options=options,
                value=field.presence,
                layout={"width": "105px"},
                tooltip=f"{visible(field.label)}: given?",
            )
            row.append(chosen)
        self._errors[field.key] = error = widgets.HTML(layout={"display": "none"})
        return widgets.VBox([widgets.HBox(row, layout={"width": _WIDE}), error], layout={"overflow": "visible"})

    def _locked(self, field: Field) -> Any:
        name, text = (html.escape(visible(one, keep="\n\t")) for one in (field.label, field.text))
        return widgets.HTML(
            '<div style="display:flex;gap:8px;line-height:1.45;margin:2px 0">'
            f'<span style="flex:0 0 130px;text-align:right;overflow-wrap:anywhere">{name}</span>'
            f'<span style="white-space:pre-wrap;overflow-wrap:anywhere">{text or "-"}'
            ' <i style="opacity:.65">(may not be edited)</i></span></div>'
        )

    def _say(self, label: Any, text: str) -> None:
        color = "var(--jp-error-color1, #c62828)"
        label.value = f'<div role="alert" style="margin-left:138px;color:{color}">{html.escape(visible(text))}</div>'
        label.layout.display = "" if text else "none"


def _input(field: Field, whole: str) -> Any:
    about: dict[str, Any] = {
        "description": visible(field.label) or whole,
        "tooltip": visible(" ".join(filter(None, (field.help, f"({field.kind})")))),
        "style": _LABEL,
        "layout": {"flex": "1 1 auto", "width": "auto"},
    }
    if field.widget == "choice":
        options = [(visible(option.label), option.text) for option in field.options]
        if not field.text:
            options.insert(0, ("", ""))
        return widgets.Dropdown(options=options, value=field.text, **about)
    if field.widget in ("lines", "list", "json"):
        rows = min(14, max(2, field.text.count("\n") + 1 + len(field.text) // 90))
        return widgets.Textarea(value=field.text, rows=rows, placeholder=_example(field), **about)
    return widgets.Text(value=field.text, placeholder=_example(field), **about)


def _example(field: Field) -> str:
    if field.presence == "null":
        return "null"
    if field.default:
        return f"not given; then {visible(field.default)}"
    kinds = {"date": "YYYY-MM-DD", "list": "one a line", "json": "JSON"}
    return kinds.get(field.widget, "" if field.text else f"{field.kind}{'' if field.required else ', not given'}")
