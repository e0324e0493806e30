"""Markdown that nobody has checked, as HTML that can do no harm: no HTML of its own, no images, few kinds of links."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from hitl_graph.visible import visible

__all__ = ["Reader", "markdown"]

_LINKS = re.compile(r"(?:https?://[^/\s]|mailto:[^\s])", re.IGNORECASE)
_LONGEST = 100_000  # characters; a longer text is shown as it is
_HARD = re.compile(r"[\[\]!*_\n]")
_HARDEST = 20_000  # characters of a page that take long to read, 50 µs each
_ATTRIBUTES = {"rel": "noopener noreferrer nofollow", "target": "_blank"}


class Reader:
    """Reads the texts of one page. However they were made up, that takes a second at most: the rest stays plain."""

    def __init__(self) -> None:
        self._left = _HARDEST

    def __call__(self, text: str) -> Markup:
        """As `markdown`."""
        hard = len(_HARD.findall(text))
        if hard > self._left:
            return _plain(visible(text, keep="\n\t"))
        self._left -= hard
        return markdown(text)


def markdown(text: str) -> Markup:
    """A text as safe HTML.

    HTML in it is shown as text, an image as its description and address. A link leads to http, https or mailto, and its
    address stands beside it, whatever its text says. Headings are bold lines, so that they do not look like ours.
    Hidden characters are shown.
    """
    plain = visible(text, keep="\n\t")
    if len(plain) > _LONGEST:
        return _plain(plain)
    tokens = _READER.parse(plain)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            if token.nesting == 1:
                token.attrs = {"class": "md-heading"}
        if token.children:
            token.children = _with_addresses(token.children)
    return Markup(_READER.renderer.render(tokens, _READER.options, {}))


def _plain(text: str) -> Markup:
    return Markup(f"<pre>{escape(text)}</pre>")


def _with_addresses(tokens: Sequence[Token]) -> list[Token]:
    """The same with the address after each link whose text is another one."""
    found: list[Token] = []
    address, said = "", ""
    for token in tokens:
        if token.type == "link_open":
            address, said = str(token.attrs.get("href", "")), ""
            token.attrs = {"href": address, **_ATTRIBUTES}
        else:
            said += token.content
        found.append(token)
        if token.type == "link_close" and said != address.removeprefix("mailto:"):
            found.append(Token("text", "", 0, content=f" ({address})"))
    return found


def _image(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    description = renderer.renderInlineAsText(token.children or [], options, env)
    return escape(f"[image: {description or 'without a description'}] ({token.attrs.get('src', '')})")


def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True})
    reader.validateLink = lambda url: _LINKS.match(url) is not None  # type: ignore[method-assign]
    reader.add_render_rule("image", _image)
    return reader


_READER = _reader()
