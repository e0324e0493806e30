"""Which process holds something, and whether it is still there.

An owner names machine, boot, process-id namespace, process and its start time, so that a recycled process id is
not taken for the old process. Where that cannot be told (another machine or container), a lease decides.
"""

import os
import socket
from functools import cache
from pathlib import Path

__all__ = ["current", "is_dead"]


def current() -> str:
    """This process."""
    return _own(os.getpid())


def is_dead(owner: str) -> bool | None:
    """True: it has ended. False: it runs. None: it cannot be told from here."""
    place, _, rest = owner.rpartition("/")
    place, _, pid = place.rpartition("/")
    here = _place()
    if place != here:
        then, now = place.split("/"), here.split("/")
        rebooted = then[0] == now[0] and "-" not in (*then[1:2], now[1]) and then[1:2] != now[1:2]
        return True if rebooted and len(then) > 1 else None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started = _started(int(pid))
    return started is None or str(started) != rest


@cache
def _own(pid: int) -> str:  # by the process id, because a fork inherits the cache
    return f"{_place()}/{pid}/{_started(pid)}"


@cache
def _place() -> str:
    def read(path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except OSError:
            return "-"

    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "-"
    return f"{socket.gethostname()}/{read('/proc/sys/kernel/random/boot_id')}/{namespace}"


def _started(pid: int) -> str | None:
    """Start time in clock ticks since boot; a zombie counts as ended. "-" where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return "-"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
