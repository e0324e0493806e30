"""The checklist of docs/web_security.md names tests that exist, and leaves no requirement of its level out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "web_security.md").read_text()
LEVEL_1 = {  # OWASP ASVS 5.0.0
    "V1.2": 5, "V1.3": 2, "V1.5": 1, "V2.1": 1, "V2.2": 2, "V2.3": 1, "V3.2": 2, "V3.3": 1, "V3.4": 2, "V3.5": 3,
    "V4.1": 1, "V4.4": 1, "V5.2": 2, "V5.3": 2, "V6.1": 1, "V6.2": 8, "V6.3": 2, "V6.4": 2, "V7.2": 4, "V7.4": 2,
    "V8.1": 1, "V8.2": 2, "V8.3": 1, "V9.1": 3, "V9.2": 1, "V10.4": 5, "V11.3": 2, "V11.4": 1, "V12.1": 1, "V12.2": 2,
    "V13.4": 1, "V14.2": 1, "V14.3": 1, "V15.1": 1, "V15.2": 1, "V15.3": 1,
}  # fmt: skip


def test_every_requirement_of_the_level_is_listed() -> None:
    listed = re.findall(r"^\| (V[\d.]+) \|", PAGE, re.MULTILINE)
    wanted = [f"{section}.{number}" for section, count in LEVEL_1.items() for number in range(1, count + 1)]
    assert listed == wanted
    assert len(listed) == 70


def test_every_test_that_it_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 30
    there = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert named - there == set()
