"""Plots as SVG texts: scales, ticks, axes, marks. Every text that is not ours is escaped here.

Looks come from the classes in `report.css`, so that one picture does for light and dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape as html
from math import ceil, floor, isfinite, log10

from hitl_graph.visible import visible

__all__ = ["Axis", "Plot", "escape", "linear", "times"]

_WIDTH, _HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 22, 46
_STEPS = (1, 2, 2.5, 5, 10)
_SPANS = (
    (timedelta(minutes=3), "%H:%M:%S"),
    (timedelta(days=2), "%H:%M"),
    (timedelta(days=300), "%-d %b"),
    (timedelta.max, "%b %Y"),
)


def escape(text: str) -> str:
    """A text that is not ours, as HTML: it can hide nothing and pretend nothing."""
    return html(visible(text)).replace(" %", "&nbsp;%")


@dataclass(frozen=True)
class Axis:
    """From where to where, which ticks, and what it is called."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    name: str

    def place(self, value: float) -> float:
        """From 0 to 1; what lies beyond an end is at the end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def linear(low: float, high: float, name: str, *, percent: bool = False, count: int = 5) -> Axis:
    """An axis with about so many round ticks."""
    if not (isfinite(low) and isfinite(high) and low < high):
        low, high = (low - 0.5, low + 0.5) if isfinite(low) else (0.0, 1.0)
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(one * power for one in _STEPS if one * power >= rough * 0.999)
    values = [number * step for number in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]
    return Axis(
        low, high, tuple((value, f"{100 * value:.3g} %" if percent else f"{value:.4g}") for value in values), name
    )


def times(start: datetime, end: datetime, name: str) -> Axis:
    """An axis of time, in UTC."""
    end = max(end, start + timedelta(seconds=1))
    shown = next(text for span, text in _SPANS if end - start <= span)
    low, high = start.timestamp(), end.timestamp()
    ticks: dict[str, float] = {}
    for i in range(4):
        ticks.setdefault((start + (end - start) * i / 3).strftime(shown), low + (high - low) * i / 3)
    return Axis(low, high, tuple((value, text) for text, value in ticks.items()), name)


@dataclass
class Plot:
    """A picture that grows by what is drawn; `svg` gives it.

    Args:
        title: What it shows, for those who do not see it.
        told: The same at more length.
        id: Of the page's; title and text are referred to by it.
    """

    title: str
    told: str
    id: str
    x: Axis
    y: Axis
    height: int = _HEIGHT
    left: int = _LEFT
    marks: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where values lie in the picture."""
        width, height = _WIDTH - self.left - _RIGHT, self.height - _TOP - _BOTTOM
        return self.left + width * self.x.place(x), _TOP + height * (1 - self.y.place(y))

    def line(self, points: Sequence[tuple[float, float]], look: str) -> None:
        """A line through points."""
        if points:
            self.marks.append(f'<path class="{look}" d="M{self._path(points)}"/>')

    def area(self, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], look: str) -> None:
        """What lies between two lines."""
        if upper and lower:
            ring = f"{self._path(upper)} L{self._path(lower[::-1])}"
            self.marks.append(f'<path class="{look}" d="M{ring} Z"/>')

    def dot(self, x: float, y: float, look: str, told: str, *, size: float = 4.5) -> None:
        """A mark that says what it is when pointed at."""
        left, top = self.at(x, y)
        self.marks.append(
            f'<circle class="{look}" cx="{left:.1f}" cy="{top:.1f}" r="{size}"><title>{escape(told)}</title></circle>'
        )

    def bar(self, x: tuple[float, float], y: tuple[float, float], look: str, told: str) -> None:
        """A box between values."""
        (left, top), (right, bottom) = self.at(x[0], y[1]), self.at(x[1], y[0])
        if bottom - top > 0.05:
            self.marks.append(
                f'<rect class="{look}" x="{left:.1f}" y="{top:.1f}" width="{max(1.0, right - left):.1f}"'
                f' height="{bottom - top:.1f}"><title>{escape(told)}</title></rect>'
            )

    def label(
        self, x: float, y: float, text: str, look: str, *, dx: float = 0, dy: float = 0, anchor: str = "start"
    ) -> None:
        """Words beside a place; `anchor` says which end of them is there."""
        left, top = self.at(x, y)
        self.marks.append(_text(left + dx, top + dy, text, look, anchor))

    def upright(self, x: float, look: str, text: str, *, low: bool = False) -> None:
        """A line from top to bottom, with words at its upper or lower end, on the side where there is room."""
        (left, top), (_, bottom) = self.at(x, self.y.high), self.at(x, self.y.low)
        self.marks.append(f'<path class="{look}" d="M{left:.1f},{top:.1f} V{bottom:.1f}"/>')
        late = self.x.place(x) > 0.5
        end = bottom - 6 if low else top + 11
        self.marks.append(_text(left + (-5 if late else 5), end, text, "note", "end" if late else "start"))

    @property
    def svg(self) -> str:
        """The picture."""
        size = f'viewBox="0 0 {_WIDTH} {self.height}"'
        return (
            f'<svg {size} role="img" aria-labelledby="{self.id}-t {self.id}-d"><title id="{self.id}-t">'
            f'{escape(self.title)}</title><desc id="{self.id}-d">{escape(self.told)}</desc>'
            f"{''.join(self._axes())}{''.join(self.marks)}</svg>"
        )

    def _axes(self) -> list[str]:
        (left, bottom), (right, top) = self.at(self.x.low, self.y.low), self.at(self.x.high, self.y.high)
        found = [_text((left + right) / 2, bottom + 38, self.x.name, "name", "middle")]
        found.append(_text(2, top - 9, self.y.name, "name", "start"))
        for value, text in self.y.ticks:
            _, level = self.at(self.x.low, value)
            found.append(f'<path class="grid" d="M{left:.1f},{level:.1f} H{right:.1f}"/>')
            found.append(_text(left - 7, level + 4, text, "tick", "end"))
        for number, (value, text) in enumerate(self.x.ticks):
            place, _ = self.at(value, self.y.low)
            anchor = "end" if place > right - 14 else "start" if number == 0 and place < left + 14 else "middle"
            found.append(f'<path class="axis" d="M{place:.1f},{bottom:.1f} v4"/>')
            found.append(_text(place, bottom + 18, text, "tick", anchor))
        found.append(f'<path class="axis" d="M{left:.1f},{bottom:.1f} H{right:.1f}"/>')
        return found

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        return " L".join(f"{left:.1f},{top:.1f}" for left, top in (self.at(x, y) for x, y in points))


def _text(left: float, top: float, text: str, look: str, anchor: str) -> str:
    return f'<text class="{look}" x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
