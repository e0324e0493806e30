"""What every command shares: options, the database, the reviewer, exit codes, how errors are told."""

import contextlib
import getpass
import json
import os
import shlex
import sys
import traceback
from collections.abc import Generator, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from json import JSONDecodeError
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup, TyperOption

from hitl_graph.cli.views import visible
from hitl_graph.errors import (
    AlreadyDecidedError,
    ChatError,
    ClaimedError,
    CredentialError,
    DirectoryError,
    GrantError,
    HitlError,
    InvalidDecisionError,
    NotEntitledError,
    QuorumMissingError,
    StaleRequestError,
    StorageError,
    SwitchError,
    UnknownGrantError,
    UnknownRequestError,
)
from hitl_graph.ledger import Ledger
from hitl_graph.reviewers import Directory, StaticDirectory
from hitl_graph.storage.urls import is_postgres

__all__ = [
    "DATABASE",
    "FAILED",
    "REFUSED",
    "TAMPERED",
    "UNKNOWN",
    "USAGE",
    "As",
    "Command",
    "Db",
    "Failure",
    "Json",
    "Listing",
    "answers_at",
    "app",
    "check_database",
    "debugging",
    "directory",
    "emit",
    "note",
    "on_terminal",
    "open_ledger",
    "reviewer_name",
    "run",
    "told",
]

FAILED, USAGE, UNKNOWN, REFUSED, DATABASE, TAMPERED = 1, 2, 3, 4, 5, 6

_EPILOG = """\b
Exit codes:
  0  done
  1  the graph or hitl itself failed, doctor found something, a replayed policy lets rejects through,
     or there is no certificate
  2  the command line is wrong
  3  no such request or thread, or several begin so
  4  refused: already decided, no longer asked, not yours to decide, or not a valid answer; nothing was recorded
  5  the database cannot be used
  6  the audit log does not verify

\b
Environment:
  HITL_DB        the database, in place of --db
  HITL_REVIEWER  who decides, in place of --as
  HITL_DIRECTORY who has which roles, in place of --directory
  HITL_DEBUG     1: errors with their traceback
  NO_COLOR       1: no colours"""

_COMMANDS = (
    "looking",
    "answering",
    "people",
    "saying",
    "grants",
    "switches",
    "history",
    "working",
    "serving",
    "tokens",
    "sweeping",
    "audit",
    "exporting",
    "learning",
    "database",
    "policy",
    "replay",
    "stuck",
    "mcp",
    "doctor",
    "demo",
)
_NEWLINE = "\n"
_debugging = False
_directory: str | None = None


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return _debugging


def directory() -> Directory | None:
    """Who has which roles: the file of `--directory`, which may stand before or after the command.

    Raises:
        DirectoryError: It cannot be read.
    """
    return StaticDirectory.from_file(_directory) if _directory else None


class Failure(Exception):
    """A command that ends here: what to say, and the exit code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(code, message)

    def __str__(self) -> str:
        return str(self.args[1])


class Command(TyperCommand):
    """A command whose errors are one or two lines on stderr and an exit code.

    One that opens a ledger takes `--directory`, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if any(option.name == "db" for option in self.params):
            self.params.append(_directory_option())

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # `hitl inbox | head`: who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as exc:
            if isinstance(exc, typer.Exit | typer.Abort) or type(exc).__module__.startswith(("typer", "click")):
                raise
            if _debugging:
                traceback.print_exc()
            code, message = told(exc)
            print(f"hitl: {visible(message, keep=_NEWLINE)}", file=sys.stderr)
            raise typer.Exit(code) from exc


class Listing(TyperGroup):
    """A group of commands of which the first, `list`, need not be typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add it."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def told(exc: Exception) -> tuple[int, str]:
    """The exit code of an error, and what to say of it."""
    match exc:
        case Failure():
            return exc.code, str(exc)
        case UnknownRequestError() | UnknownGrantError():
            return UNKNOWN, str(exc)
        case AlreadyDecidedError() | StaleRequestError() | InvalidDecisionError() | ClaimedError():
            return REFUSED, str(exc)
        case GrantError() | SwitchError() | ChatError() | CredentialError():
            return REFUSED, str(exc)
        case NotEntitledError() | QuorumMissingError():
            hint = "" if _directory else "\nNo directory is given, so nobody has roles: --directory FILE"
            return REFUSED, str(exc) + (hint if ":" in str(exc.args[1]).partition("Needed: ")[2] else "")
        case DirectoryError():
            return USAGE, str(exc)
        case StorageError():
            return DATABASE, str(exc)
        case HitlError():
            return FAILED, str(exc)
        case UnicodeEncodeError():
            return USAGE, f"{exc.object!a} is not valid text; nothing was recorded"
        case _:
            pass
    if type(exc).__module__ == "sqlite3" or isinstance(exc, JSONDecodeError | ValidationError):
        # What a person typed is checked where it is read, so this was stored.
        reason = str(exc).partition("\n")[0]
        return DATABASE, f"the database has contents that cannot be read ({reason}); see `hitl doctor`"
    shown = "" if _debugging else "\nhitl --debug shows where; please report it"
    return FAILED, f"{type(exc).__name__}: {exc}{shown}"


app = typer.Typer(
    name="hitl",
    help="Approve what agents want to do: look at what waits, decide, carry it out, check the record.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: its boxes would also be drawn into a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)

Db = Annotated[
    str,
    typer.Option("--db", envvar="HITL_DB", metavar="FILE", help="The agent's database: a file, or postgresql://..."),
]
As = Annotated[
    str | None, typer.Option("--as", envvar="HITL_REVIEWER", metavar="NAME", help="Who decides. Default: the OS user.")
]
_DIRECTORY = "Who has which roles: a TOML file of [people.NAME] with roles and groups."


def _remember(path: str | None) -> str | None:
    global _directory
    _directory = path or _directory
    return path


@cache
def _directory_option() -> TyperOption:
    """An option as Typer makes one, for commands that do not name it themselves."""
    made = typer.Typer(add_completion=False)

    @made.command()
    def command(
        directory: Annotated[
            str | None, typer.Option("--directory", metavar="FILE", help=_DIRECTORY, callback=_remember)
        ] = None,
    ) -> None: ...

    [option] = [param for param in typer.main.get_command(made).params if param.name == "directory"]
    assert isinstance(option, TyperOption)
    option.expose_value = False
    return option


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"hitl-graph {version('hitl-graph')}")
        except PackageNotFoundError:
            print("hitl-graph (not installed as a package)")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", envvar="HITL_DEBUG", help="Errors with their traceback.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    directory: Annotated[
        str | None, typer.Option("--directory", envvar="HITL_DIRECTORY", metavar="FILE", help=_DIRECTORY)
    ] = None,
) -> None:
    global _debugging, _directory
    _debugging, _directory = debug, directory


def run(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no such letter must not hide the rest
            stream.reconfigure(errors="backslashreplace")
    for name in _COMMANDS:
        import_module(f"hitl_graph.cli.{name}")
    try:
        app(list(argv), prog_name="hitl")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


@contextlib.contextmanager
def open_ledger(path: str) -> Generator[Ledger]:
    """The ledger of a database that exists: a misspelt name never becomes an empty database."""
    people = directory()
    check_database(path)
    with Ledger.open(path, directory=people) as ledger:
        yield ledger


def check_database(path: str) -> None:
    """Refuse what can be no database of an agent."""
    if is_postgres(path):
        return
    hint = "name the agent's database with --db FILE or HITL_DB"
    if os.path.isdir(path):
        raise Failure(DATABASE, f"{path} is a folder; {hint}")
    if not os.path.exists(path):
        raise Failure(DATABASE, f"there is no database {os.path.abspath(path)}; {hint}")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise Failure(DATABASE, f"{path} is an empty file, no agent has used it yet; {hint}")


def reviewer_name(given: str | None) -> str:
    """Who decides: `--as`, `HITL_REVIEWER` or the user of the operating system."""
    if given is not None:
        if not given.strip():
            raise Failure(USAGE, "--as (or HITL_REVIEWER) is empty; give the name of who decides")
        return given.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise Failure(USAGE, "this user has no name; say who decides with --as NAME or HITL_REVIEWER") from None


def answers_at(ctx: typer.Context, db: str) -> str:
    """What to add to a command so that it finds the same database."""
    source = ctx.get_parameter_source("db")
    if source is None or source.name != "COMMANDLINE":
        return ""
    return f" --db {shlex.quote(db)}"


def on_terminal() -> bool:
    """Whether a person types and reads here."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def emit(row: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(row), flush=True)


def note(text: str) -> None:
    """Something for people, out of the way of what scripts read."""
    print(text, file=sys.stderr, flush=True)
