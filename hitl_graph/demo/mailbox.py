"""Real mail files: an mbox, or a folder of .eml files. The originals are only read."""

import email
import mailbox
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import parseaddr
from importlib.resources import files
from pathlib import Path
from typing import Any

__all__ = ["ME", "Mail", "Mailbox", "message_id"]

ME = "kim@larsen.example"

_LONGEST = 20_000  # characters of a mail that the model gets to read


@dataclass(frozen=True)
class Mail:
    """What the assistant sees of a mail."""

    id: str
    sender: str
    subject: str
    text: str
    attachments: tuple[str, ...]
    is_list: bool

    @property
    def address(self) -> str:
        """The sender's bare address."""
        return parseaddr(self.sender)[1]


class Mailbox:
    """A working copy of mails: a folder with `inbox` and `archive`."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.archived = folder / "inbox", folder / "archive"

    @classmethod
    def copy(cls, source: Path | None, folder: Path, limit: int = 20) -> tuple["Mailbox", int]:
        """Copy mails into `folder`: the last `limit` of `source`, or the samples that ship with the demo.

        Returns:
            The copy, and how many mails the source has.

        Raises:
            ValueError: There is no mail in `source`, or it cannot be read.
        """
        own = cls(folder)
        own.inbox.mkdir(parents=True)
        own.archived.mkdir()
        try:
            found, count = _last(source, limit)
        except OSError as exc:
            raise ValueError(f"{source} cannot be read: {exc.strerror or exc}") from exc
        for name, data in found:
            (own.inbox / f"{name}.eml").write_bytes(data)
        return own, count

    def list(self) -> list[Mail]:
        """The mails in the inbox."""
        return [self.read(path.stem) for path in sorted(self.inbox.glob("*.eml"))]

    def read(self, mail_id: str) -> Mail:
        """One mail.

        Raises:
            KeyError: It is not in the inbox.
        """
        message = email.message_from_bytes(self._path(mail_id).read_bytes(), policy=policy.default)
        assert isinstance(message, EmailMessage)
        return Mail(
            id=mail_id,
            sender=_header(message, "From") or "unknown",
            subject=_header(message, "Subject") or "(no subject)",
            text=_text(message)[:_LONGEST],
            attachments=tuple(part.get_filename() or "unnamed" for part in message.iter_attachments()),
            is_list="List-Unsubscribe" in message,
        )

    def archive(self, mail_id: str) -> None:
        """Move a mail out of the inbox."""
        path = self._path(mail_id)
        path.rename(self.archived / path.name)

    def delete(self, mail_id: str) -> None:
        """Remove a mail for good."""
        self._path(mail_id).unlink()

    def _path(self, mail_id: str) -> Path:
        path = self.inbox / f"{mail_id}.eml"
        if "/" in mail_id or not path.is_file():
            raise KeyError(f"no mail {mail_id!r} in the inbox")
        return path


def message_id(key: str) -> str:
    """The Message-ID of the mail that the action with this idempotency key sends: the same for every attempt."""
    return f"<{key}@larsen.example>"


def _last(source: Path | None, limit: int) -> tuple[list[tuple[str, bytes]], int]:
    """The last mails of a source with a name for each, and how many there are in all."""
    if source is None:
        samples = sorted((files("hitl_graph.demo") / "samples").iterdir(), key=lambda entry: entry.name)
        named = [(s.name.removesuffix(".eml"), s.read_bytes()) for s in samples if s.name.endswith(".eml")]
        return named, len(named)
    if source.is_dir():
        paths = sorted(source.glob("*.eml"))
        found, count = [path.read_bytes() for path in paths[-limit:]], len(paths)
    elif source.is_file():
        box = mailbox.mbox(source, create=False)
        try:
            keys = box.keys()
            found, count = [box.get_bytes(key) for key in keys[-limit:]], len(keys)
        finally:
            box.close()
    else:
        raise ValueError(f"{source} does not exist; give an mbox file or a folder of .eml files")
    if not found:
        raise ValueError(f"{source} has no mails; give an mbox file or a folder of .eml files")
    return [(f"{number:02}", data) for number, data in enumerate(found, 1)], count


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message[name] or "").split())


def _text(message: EmailMessage) -> str:
    """The text of a mail; as much of it as can be decoded, because mails in the wild say wrong things of themselves."""
    body: Any = message.get_body(("plain", "html"))
    if body is None:
        return ""
    try:
        return str(body.get_content()).strip()
    except (LookupError, ValueError):
        raw = body.get_payload(decode=True)
        return raw.decode(errors="replace").strip() if isinstance(raw, bytes) else ""
