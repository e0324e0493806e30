"""What the documents show works: Python is executed, commands exist.

The blocks of a page run in order, in one namespace, in an empty folder.
"""

import ast
import asyncio
import inspect
import re
import shlex
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]+)\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: str
    text: str


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match["info"].strip(), textwrap.dedent(match["code"]))
        for match in FENCE.finditer(text)
    ]


def _is_python(block: Block) -> bool:
    return block.info.startswith("py")


def _commands(block: Block) -> list[str]:
    """The `hitl` commands of a shell block; the output below a `$ ` prompt is none."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    found: list[str] = []
    for line in lines:
        lexer = shlex.shlex(re.sub(r"<(\w+)>", r"\1", line), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):  # the shell's own: what follows is another command, or a file
                while command and re.fullmatch(r"\w+=.*", command[0]):  # VARIABLE=value in front of it
                    del command[0]
                if command and Path(command[0]).name == "hitl":
                    found.append(shlex.join(command[1:]))
                command = []
            else:
                command.append(word)
    return found


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")  # by langgraph-supervisor
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    for adapter, needs in (("adapters.autogen", "autogen_agentchat"), ("adapters.ag2", "ag2")):  # not in `all`
        if adapter in page.read_text():
            pytest.importorskip(needs)
    if "DATABASE_URL" in page.read_text():
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres_dsn"))
    module = ModuleType("page")  # registered, since get_type_hints looks a class's module up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in filter(_is_python, _blocks(page)):
        assert re.fullmatch(r'python( title="[^"]*")?', block.info), f"{page.name}:{block.line}: each block is run"
        code = compile(
            "\n" * block.line + block.text,  # a traceback then shows the page's own lines
            str(page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        _execute(code, module)


def _execute(code: CodeType, module: ModuleType) -> None:
    result = eval(code, vars(module))
    if inspect.iscoroutine(result):  # the block awaits something at its top level
        asyncio.run(result)


SHOWN = sorted(
    {
        (block.page.name, command)
        for page in PAGES
        for block in _blocks(page)
        if block.info.split()[0] in {"console", "bash", "sh", "shell"}
        for command in _commands(block)
    }
)


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_every_command_exists(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sub-commands and options are parsed before `--help` is obeyed; an unknown one ends with 2."""
    [hitl] = entry_points(group="console_scripts", name="hitl")
    monkeypatch.setattr(sys, "argv", ["hitl", *shlex.split(command), "--help"])
    with pytest.raises(SystemExit) as stop:
        sys.exit(hitl.load()())
    assert stop.value.code in (0, None), f"{page} shows `hitl {command}`: {capsys.readouterr().err}"
