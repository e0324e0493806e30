"""What the pages load: nothing from elsewhere, nothing unknown, and not much of it."""

import hashlib
import re

from hitl_graph.web.door import HERE

STATIC = HERE / "static"


def test_vendored_files_are_what_their_list_says() -> None:
    listed = dict(
        re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (STATIC / "vendored.md").read_text(), re.MULTILINE)
    )
    assert listed, "vendored.md lists nothing"
    assert listed == {name: hashlib.sha256((STATIC / name).read_bytes()).hexdigest() for name in listed}
    assert {path.name for path in STATIC.glob("*.min.*")} == set(listed)


def test_all_assets_together_are_small() -> None:
    assert sum(path.stat().st_size for path in STATIC.rglob("*") if path.is_file()) < 200_000


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_inline() -> None:
    for path in (HERE / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"(src|href)=[\"']?(https?:)?//", text), path.name
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text), path.name
        safe = re.findall(r"([^{}]*)\|\s*safe", text)
        assert all(re.fullmatch(r"\s*markdown\(.*\)\s*", given) for given in safe), path.name
    for path in STATIC.glob("*.js"):
        if ".min." not in path.name:
            assert not re.search(r"https?://|\beval\(|new Function|innerHTML|insertAdjacentHTML", path.read_text()), (
                path.name
            )
