"""Runs a server: on standard input for the client that started it, or on a port."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import uvicorn
from mcp.server.fastmcp import FastMCP

__all__ = ["listen", "run_http", "run_stdio"]


def run_stdio(server: FastMCP, close: Callable[[], object]) -> None:
    """Serve the client that started this process, until it closes standard input or sends a signal.

    Args:
        close: Called before a signal ends the process; it finishes what is being recorded.
    """
    theirs = sys.stdin, sys.stdout
    with open(os.dup(0)) as sys.stdin, open(os.dup(1), "w") as sys.stdout:  # the SDK closes what it is given
        try:
            anyio.run(_stdio, server, close)
        finally:
            sys.stdin, sys.stdout = theirs


async def _stdio(server: FastMCP, close: Callable[[], object]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_until_told, close)
        await server.run_stdio_async()
        tasks.cancel_scope.cancel()


async def _until_told(close: Callable[[], object]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            with suppress(Exception):
                await anyio.to_thread.run_sync(close)
            os._exit(0)  # a thread waits for standard input, and nothing but its end would wake it


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to.

    Raises:
        OSError: The address is taken, or is not one of this machine.
    """
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def run_http(server: FastMCP, listening: socket.socket) -> None:
    """Serve on a socket, until a signal ends it."""
    config = uvicorn.Config(
        server.streamable_http_app(), log_level="warning", access_log=False, server_header=False, lifespan="on",
        ws="none", timeout_graceful_shutdown=2,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _heard)  # uvicorn raises it again once it has stopped
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _heard(number: int, frame: object) -> None:
    del number, frame
