"""Real mail files: an mbox, or a folder of .eml files. The originals are only read."""

import email
import mailbox
import shutil
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import parseaddr
from importlib.resources import as_file, files
from pathlib import Path

__all__ = ["Mail", "Mailbox"]


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
    def copy(cls, source: Path | None, folder: Path, limit: int = 20) -> "Mailbox":
        """Copy mails into `folder`: the last `limit` of `source`, or the samples that ship with the demo.

        Raises:
            ValueError: There is no mail in `source`.
        """
        own = cls(folder)
        own.inbox.mkdir(parents=True)
        own.archived.mkdir()
        if source is None:
            with as_file(files("hitl_graph.demo") / "samples") as samples:
                shutil.copytree(samples, own.inbox, dirs_exist_ok=True)
            return own
        if source.is_dir():
            found = [path.read_bytes() for path in sorted(source.glob("*.eml"))]
        elif source.is_file():
            box = mailbox.mbox(source, create=False)
            try:
                found = [box.get_bytes(key) for key in box.keys()]
            finally:
                box.close()
        else:
            raise ValueError(f"{source} does not exist; give an mbox file or a folder of .eml files")
        if not found:
            raise ValueError(f"{source} has no mails; give an mbox file or a folder of .eml files")
        for number, data in enumerate(found[-limit:], 1):
            (own.inbox / f"{number:02}.eml").write_bytes(data)
        return own

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
        body = message.get_body(("plain", "html"))
        return Mail(
            id=mail_id,
            sender=str(message["From"] or "unknown"),
            subject=str(message["Subject"] or "(no subject)"),
            text=body.get_content().strip() if body is not None else "",
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
