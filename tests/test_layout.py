"""How the package is laid out, in a checkout and in an installed wheel alike."""

import ast
import importlib
import pkgutil
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

import hitl_graph

PORTIONS = [Path(portion) for portion in hitl_graph.__path__]
SOURCES = sorted(file for portion in PORTIONS for file in portion.rglob("*.py"))
CHECKOUT = Path(__file__).parents[1]


NOT_IN_ALL = {"hitl_graph.adapters.autogen": "autogen_agentchat", "hitl_graph.adapters.ag2": "ag2"}
ABSENT = tuple(name for name, needs in NOT_IN_ALL.items() if find_spec(needs) is None)


def _public_modules() -> list[str]:
    def failed(name: str) -> None:
        if name not in ABSENT:
            importlib.import_module(name)

    found = pkgutil.walk_packages(hitl_graph.__path__, "hitl_graph.", onerror=failed)
    return sorted({one.name for one in found if "._" not in one.name and not one.name.startswith(ABSENT)})


def _like_ruff(name: str) -> tuple[int, str]:
    """CONSTANTS, Classes, functions: the order of ruff's RUF022."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _is_a_command(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command of the CLI: it is called from the shell, not imported."""
    return any(re.search(r"\.(command|callback)\b", ast.unparse(decorator)) for decorator in node.decorator_list)


def test_nothing_turns_the_namespace_into_a_package() -> None:
    """One such file would hide the other two roots in an editable install, while the wheel still worked."""
    roots = {*PORTIONS, *(CHECKOUT / root / "hitl_graph" for root in (".", "nodes", "checkpointers"))}
    assert [root for root in roots if (root / "__init__.py").exists()] == []
    assert hitl_graph.__file__ is None


@pytest.mark.parametrize("package", ["", "nodes", "checkpointers"])
def test_types_are_announced(package: str) -> None:
    assert any((portion / package / "py.typed").is_file() for portion in PORTIONS)


@pytest.mark.parametrize("name", _public_modules())
def test_public_names_are_listed_sorted_and_complete(name: str) -> None:
    """What a module defines without a leading underscore is in `__all__`; so is whatever else it offers."""
    module = importlib.import_module(name)
    exported: list[str] = module.__all__
    assert exported == sorted(exported, key=_like_ruff)
    assert [missing for missing in exported if not hasattr(module, missing)] == []
    assert module.__file__
    defined = {
        node.name
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if not node.name.startswith("_") and not _is_a_command(node)
    }
    assert defined <= set(exported)


def test_the_command_is_installed() -> None:
    [command] = entry_points(group="console_scripts", name="hitl")
    assert command.value == "hitl_graph.cli:main"
    assert callable(command.load())


def test_migrations_are_numbered_without_gaps() -> None:
    folders = {file.parent for portion in PORTIONS for file in portion.glob("storage/migrations/**/*.sql")}
    assert folders
    for folder in folders:
        numbers = [int(file.name.split("_")[0]) for file in sorted(folder.glob("*.sql"))]
        assert numbers == list(range(1, len(numbers) + 1)), folder


def test_only_the_nodes_interrupt() -> None:
    """Whoever pauses a graph has to check the answer; that is written once, in hitl_graph.nodes."""
    callers = {
        file
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "langgraph.types"
        if "interrupt" in {alias.name for alias in node.names}
    }
    assert {file.parent.name for file in callers} <= {"nodes"}
