"""A throw-away PostgreSQL server for tests and benchmarks: a real one that never outlives the run."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn, Self

import psycopg
import pytest

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",
    "autovacuum": "off",
    "timezone": "UTC",
}


class Cluster:
    """One server with trust authentication, on a unix socket and on loopback, until `close()` or our own end.

    A process of its own watches a pipe to us; when that closes, for whatever reason, it stops the server and removes
    the files.

    Args:
        fsync: Whether a commit waits for the disk, as in production.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._numbers = itertools.count(1)
        self._supervisor = subprocess.Popen(
            [sys.executable, __file__, str(self.port), "on" if fsync else "off"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._supervisor.stdout is not None
        said = self._supervisor.stdout.readline().strip()
        if not said.startswith("ready "):
            rest = self._supervisor.stdout.read()
            self.close()
            pytest.fail(f"no PostgreSQL for the tests: {said}\n{rest}", pytrace=False)
        self.folder = Path(said.removeprefix("ready "))
        self._admin: psycopg.Connection | None = None

    def dsn(self, database: str) -> str:
        """How to connect to a database by the unix socket."""
        return f"host={self.folder} port={self.port} user=postgres dbname={database}"

    def tcp_dsn(self, database: str) -> str:
        """The same by loopback."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    @contextlib.contextmanager
    def database(self) -> Generator[str]:
        """An empty database of its own; gives its dsn and drops it at the end, with whatever is still connected."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        try:
            yield self.dsn(name)
        finally:
            self.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def admin(self) -> psycopg.Connection:
        """An autocommitting connection of the superuser, to look at the server from outside."""
        if self._admin is None or self._admin.broken:
            self._admin = psycopg.connect(self.dsn("postgres"), autocommit=True)
        return self._admin

    def restart(self) -> None:
        """Stop the server, cutting all connections, and start it again."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.write("restart\n")
        self._supervisor.stdin.flush()
        assert self._supervisor.stdout.readline().startswith("ready ")

    def close(self) -> None:
        """Stop the server and remove its files."""
        if self.__dict__.get("_admin") is not None:
            self.admin.close()
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                pipe.close()
        self._supervisor.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="session")
def postgres_cluster() -> Generator[Cluster]:
    """A server for this pytest process, started by the first test that wants it. No test cuts its power: no fsync."""
    with Cluster(fsync=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shared_postgres_dsn(postgres_cluster: Cluster) -> Generator[str]:
    """The connection string of a database for tests that keep to a schema of their own."""
    with postgres_cluster.database() as dsn:
        yield dsn


@pytest.fixture
def postgres_dsn(postgres_cluster: Cluster) -> Generator[str]:
    """The connection string of an empty database."""
    with postgres_cluster.database() as dsn:
        yield dsn


def find_binaries() -> Path:
    """The folder of initdb and postgres.

    Raises:
        FileNotFoundError: There is none; the message says what to install.
    """
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    if (config := shutil.which("pg_config")) is not None:
        folders.insert(0, Path(subprocess.check_output([config, "--bindir"], text=True).strip()))
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(installed, key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in folders:
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK):
            return folder.resolve()
    raise FileNotFoundError(
        "initdb and postgres were not found by pg_config, on PATH or in /usr/lib/postgresql; install a server"
        " (Debian: apt-get install postgresql; macOS: brew install postgresql)"
    )


class _Server:
    """What the supervising process runs."""

    def __init__(self, port: str, fsync: str) -> None:
        self._binaries = find_binaries()
        self._owner = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="hitl-pg-", dir="/tmp"))  # a socket's path must be short
        self._settings = {**_SETTINGS, "port": port, "fsync": fsync, "unix_socket_directories": str(self.folder)}
        self._process: subprocess.Popen[bytes] | None = None
        if self._owner is not None:
            os.chown(self.folder, pwd.getpwnam(self._owner).pw_uid, -1)

    def create(self) -> None:
        """Make the files of the cluster."""
        options = (
            "--username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions".split()
        )
        with (self.folder / "initdb.log").open("wb") as log:
            made = subprocess.run(
                [self._binaries / "initdb", "--pgdata", self.folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._owner,
                check=False,
            )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {(self.folder / 'initdb.log').read_text()}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", *settings],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                user=self._owner,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg.connect(
                    f"host={self.folder} port={self._settings['port']} user=postgres dbname=postgres"
                ).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.03)
        raise RuntimeError(f"the server did not start: {log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Stop the server: at first kindly (fast shutdown), then at once."""
        if self._process is None:
            return
        for wish in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(wish)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                break
        self._process = None


def _supervise(port: str, fsync: str, commands: IO[str]) -> None:
    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(1)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches pytest too, which then closes the pipe
    try:
        server = _Server(port, fsync)
    except FileNotFoundError as error:
        print(error, flush=True)
        return
    try:
        server.create()
        server.start()
        print("ready", server.folder, flush=True)
        for _ in commands:
            server.stop()
            server.start()
            print("ready", server.folder, flush=True)
    except RuntimeError as error:
        print(error, flush=True)
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


if __name__ == "__main__":
    _supervise(sys.argv[1], sys.argv[2], sys.stdin)
