"""A local mail server that keeps what it gets as files, so that "sent once" can be seen."""

import asyncio
import os
import socket
from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from threading import Event
from typing import Any, Self

from aiosmtpd.controller import Controller

__all__ = ["MailServer"]


class MailServer:
    """Listens on a free loopback port, from the first moment on, and stores each mail in a folder.

    With `hold()`, the next mail is stored but not acknowledged: its sender hangs in the middle of sending.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.holding = Event()
        """Set once a mail is stored and its sender waits for the answer."""
        self._hold = False
        self._count = 0
        self._controller = self._listening()
        self.port: int = self._controller.port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def _listening(self) -> Controller:
        for left in reversed(range(5)):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            controller = Controller(self, hostname="127.0.0.1", port=port)
            try:
                controller.start()
                return controller
            except OSError:  # somebody else took the port in between
                if not left:
                    raise
        raise AssertionError

    def hold(self) -> None:
        """Leave the sender of the next mail without an answer."""
        self.holding.clear()
        self._hold = True

    def release(self) -> None:
        """Answer at once again."""
        self._hold = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Called by the server for each mail."""
        self._count += 1
        await asyncio.to_thread(_store, self.folder / f"{self._count:03}.eml", envelope.content)
        if self._hold:
            self._hold = False
            self.holding.set()
            await asyncio.sleep(60)
        return "250 Message accepted"

    def received(self) -> list[EmailMessage]:
        """All mails that arrived, in order."""
        return [
            message_from_bytes(path.read_bytes(), policy=policy.default) for path in sorted(self.folder.glob("*.eml"))
        ]

    def copies(self) -> Counter[str]:
        """How often each mail arrived, by its Message-ID."""
        return Counter(str(message["Message-ID"]).strip() for message in self.received())


def _store(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
