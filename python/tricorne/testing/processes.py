"""Processes as ``/proc`` shows them: who belongs to a run, what is left of it, what one holds."""

import os
import signal
import time
from pathlib import Path

MARK = "TRICORNE_TESTING_RUN"
"""The environment variable that all processes of a run have inherited."""


def marked(mark: str) -> list[int]:
    """The processes with this mark that have not ended, this one left out."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in Path(entry.path, "environ").read_bytes().split(b"\0") and is_running(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    return started(pid) is not None


def started(pid: int) -> int | None:
    """When the process started, in ticks, so that another one with its number can be told from it; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def wait_until_gone(mark: str, secs: float) -> list[int]:
    """Wait for the marked processes to end, and return those that have not."""
    end = time.monotonic() + secs
    while left := marked(mark):
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return left


def kill_marked(mark: str) -> int:
    """Kill all processes with this mark, also those that are started meanwhile. Returns how many there were."""
    killed: set[int] = set()
    for _ in range(100):
        left = marked(mark)
        if not left:
            break
        killed.update(left)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    return len(killed)


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd")) - 1


def resident() -> int:
    """Bytes of memory of its own that this process has resident."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell RssAnon")
