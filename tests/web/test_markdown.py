"""What an agent writes as Markdown can do no harm, whatever it tries."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitl_graph.web.markdown import Reader, markdown

TAGS = {"p", "em", "strong", "a", "code", "pre", "ul", "ol", "li", "blockquote", "br", "hr"}
ATTRIBUTES = {"href", "rel", "target", "class", "start"}


class Harmless(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        for name, value in attrs:
            assert name in ATTRIBUTES
            if name == "href":
                assert re.match(r"(?:https?://|mailto:)", value or "", re.IGNORECASE)
            if name == "class":
                assert re.fullmatch(r"md-heading|language-\S+", value or "")

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")


def check(text: str) -> str:
    html = markdown(text)
    Harmless(convert_charrefs=True).feed(html)
    return str(html)


ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<details open ontoggle=alert(1)>",
    "<style>*{display:none}</style>",
    "<base href='//evil.example'>",
    "<form action='https://evil.example'><button>Approve</button></form>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "[x](javascript&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A&#x61vascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://a/b)",
    "[x](/requests/1/decide)",
    "[x](//evil.example)",
    "[x](https:evil)",
    "[x](#approve)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "<data:text/html,x>",
    "![x](javascript:alert(1))",
    "![track](https://evil.example/pixel.png)",
    "![x](https://evil.example/a.png 'title\" onload=\"alert(1)')",
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    "[a](https://a.example \"x\" onclick=\"alert(1)\")",
    "[a](https://a.example/\"onmouseover=\"alert(1))",
    "`<img src=x onerror=alert(1)>`",
    "```\"><script>alert(1)</script>\nx\n```",
    "```html onload=alert(1)\n<script>\n```",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "<!-- --><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<a href='javascript:1'>x</a>",
    "<math><mi//xlink:href=\"data:x,<script>alert(4)</script>\">",
    "\u2028<script>alert(1)</script>",
    "[\u202ekcilc](https://evil.example)",
    "[x](jav\u200bascript:alert(1))",
    "*" * 2000 + "[" * 2000,
    "> " * 500 + "x",
    "- " * 500 + "x",
]  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
def test_no_attack_gets_through(text: str) -> None:
    check(text)
    check(f"some words\n\n> - {text}\n")


@given(
    st.lists(
        st.sampled_from(
            [*"[]()<>!`*_#\\&;:\"'\n\t -x", "javascript:", "https://e.x", "data:", "&#58;", "script", "\u202e"]
        )
    )
)
def test_nothing_else_gets_through_either(parts: list[str]) -> None:
    check("".join(parts))


def test_what_is_meant_is_there() -> None:
    html = check("# Title\n\n**bold** and `code`\nnext line\n\n- a\n- b\n\n```py\nx < 1\n```\n")
    assert '<p class="md-heading">Title</p>' in html
    assert "<strong>bold</strong>" in html
    assert "<code>code</code><br" in html
    assert "<li>a</li>" in html
    assert "x &lt; 1" in html


def test_a_link_tells_where_it_leads() -> None:
    html = check("[https://bank.example](https://evil.example/x) <https://plain.example> <bob@corp.example>")
    assert '<a href="https://evil.example/x" rel="noopener noreferrer nofollow" target="_blank">' in html
    assert "https://bank.example</a> (https://evil.example/x)" in html
    assert "https://plain.example</a> <a" in html
    assert '<a href="mailto:bob@corp.example"' in html


def test_an_image_is_its_description_and_address() -> None:
    assert check("![a *cat*](https://evil.example/p.png)") == ("<p>[image: a cat] (https://evil.example/p.png)</p>\n")


def test_hidden_characters_are_shown() -> None:
    assert r"\u202e" in check("safe\u202egnp.exe")
    assert r"\u200b" in check("a\u200bb")


def test_a_very_long_text_is_shown_as_it_is() -> None:
    html = check("*a* <b> " * 20_000)
    assert html.startswith("<pre>*a* &lt;b&gt; ")


@pytest.mark.parametrize("text", ["[", "![", "_*", "**a*", "[a](", "1.\n", "[x]: y\n"])
def test_a_page_of_texts_that_are_made_to_take_long_does_not(text: str) -> None:
    read, began = Reader(), time.perf_counter()
    pages = [read(text * (9000 // len(text))) for _ in range(200)]
    assert time.perf_counter() - began < 10
    assert pages[-1].startswith("<pre>")
