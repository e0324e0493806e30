"""What axe-core finds on a page: https://github.com/dequelabs/axe-core, version 4.14.1 (MPL 2.0), for tests only."""

from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).with_name("axe.min.js")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def found(page: Page) -> list[str]:
    """Each violation with the elements that it is about; none is what a test wants."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(SCRIPT.read_text() + ";0")  # not as a script of the page, whose policy forbids that
    result = page.evaluate("tags => axe.run(document, {runOnly: tags})", TAGS)
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:160]} {node['failureSummary']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]
