"""What a check is, and what it says."""

import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from tricorne.testing import processes
from tricorne.testing.pools import NotOffered, Pool, open_pool

__all__ = ["CHECKS", "Check", "Failed", "NotOffered", "Script", "Subject", "check", "expect", "fail", "outcome"]

PATIENCE = 12.0
"""Seconds after which a result that has not come does not come."""


class Failed(Exception):
    """The pool has not behaved as the check says; the message is the evidence."""


class Subject:
    """The pool under test, for one check."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix="conduct-"))

    def open(self, workers: int = 2, **options: Any) -> Pool:
        """Make a pool; see :class:`tricorne.testing.pools.Options`."""
        return open_pool(self.name, workers, **options)

    def script(self, text: str) -> "Script":
        """Start a program of a user as ``python script.py``; ``POOL`` in it is the name for ``open_pool``."""
        path = self.folder / "script.py"
        head = f"from tricorne.testing.pools import open_pool\nPOOL = {self.name!r}\nFOLDER = {str(self.folder)!r}\n"
        path.write_text(head + text, encoding="utf-8")
        return Script(path)


class Script:
    """A program that runs, and its processes."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.mark = f"{os.environ.get(processes.MARK, 'none')}-script-{time.monotonic_ns()}"
        # What reads the marks of the whole run has to find these processes, too.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", processes.MARK: self.mark}
        self.output = self.folder / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                cwd=self.folder,
            )

    def wait(self, secs: float) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self.process.wait(secs)
        except subprocess.TimeoutExpired:
            fail(f"still there after {secs:g} s: {self.last_line()}")

    def until(self, name: str, secs: float = PATIENCE) -> str:
        """Wait until it has written a file of this name into the folder, and return what is in it."""
        end = time.monotonic() + secs
        path = self.folder / name
        while not path.exists():
            if self.process.poll() is not None:
                fail(f"ended with {self.process.returncode} before it got to work: {self.last_line()}")
            if time.monotonic() > end:
                fail(f"has not got to work in {secs:g} s: {self.last_line()}")
            time.sleep(0.005)
        return path.read_text(encoding="utf-8")

    def last_line(self) -> str:
        """The last line of what it printed."""
        lines = self.text().strip().splitlines()
        return lines[-1][:120] if lines else "no output"

    def text(self) -> str:
        """What it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def left(self, secs: float = 0.0) -> list[int]:
        """Processes of it that are there after so long."""
        return processes.wait_until_gone(self.mark, secs)


class Check(NamedTuple):
    """One thing that a pool should do."""

    group: str
    name: str
    claim: str
    """In one sentence, as the documents print it."""
    limit: float
    """Seconds that it may take in all."""
    attempts: int
    """How often it is tried: more than once where a busy machine alone can make it fail."""
    run: Callable[[Subject], str]
    """Returns the evidence, or raises :class:`Failed` or :class:`NotOffered`."""


Run = TypeVar("Run", bound=Callable[[Subject], str])

CHECKS: dict[str, Check] = {}
"""All checks by name, in the order of the documents."""


def check(group: str, claim: str, limit: float = 40.0, attempts: int = 1) -> Callable[[Run], Run]:
    """Make a check of a function."""

    def register(run: Run) -> Run:
        CHECKS[run.__name__] = Check(group, run.__name__, claim, limit, attempts, run)
        return run

    return register


def fail(evidence: str) -> NoReturn:
    """The check has failed."""
    raise Failed(evidence)


def expect(condition: object, evidence: str) -> None:
    """The check has failed unless this holds."""
    if not condition:
        fail(evidence)


def outcome(future: Any, secs: float = PATIENCE) -> tuple[Any, BaseException | None]:
    """What a task returned and what it raised; a result that does not come fails the check."""
    try:
        return future.result(timeout=secs), None
    except BaseException as raised:
        if _is_time_out(raised) and not _is_done(future):
            fail(f"a future has no result after {secs:g} s")
        return None, raised


def _is_time_out(raised: BaseException) -> bool:
    return isinstance(raised, TimeoutError | concurrent.futures.TimeoutError)


def _is_done(future: Any) -> bool:
    done = getattr(future, "done", None)
    if done is not None:
        return bool(done())
    ready = getattr(getattr(future, "inner", None), "ready", None)
    return bool(ready()) if ready is not None else False


def usable(pool: Pool) -> None:
    """The check has failed unless the pool still works."""
    try:
        value, raised = outcome(pool.submit(abs, -4))
    except Failed:
        raise
    except BaseException as refused:
        fail(f"the pool is dead: {type(refused).__name__}")
    expect(value == 4, f"the pool is dead: {type(raised).__name__}")
