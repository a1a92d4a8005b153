"""The exceptions of Tricorne.

Each also inherits the standard exception that callers already catch. What the system refuses (a file that cannot be read or
written) stays a plain :class:`OSError`.
"""

import builtins
import concurrent.futures
import concurrent.futures.process
import concurrent.futures.thread

__all__ = [
    "BrokenExecutor",
    "BrokenProcessPool",
    "BrokenThreadPool",
    "CancelledError",
    "InvalidStateError",
    "PlanError",
    "RemoteError",
    "RunError",
    "TimeoutError",
    "TricorneError",
    "WorkerCrashed",
]


class TricorneError(Exception):
    """The base of every exception that Tricorne defines."""


class PlanError(TricorneError, ValueError):
    """A plan is wrong: its text says which line, what is allowed there, and what to do."""


class RunError(TricorneError, RuntimeError):
    """A run could not start or go on. What it had committed stays, and the same run goes on from there."""


class CancelledError(TricorneError, concurrent.futures.CancelledError):
    """The task was cancelled."""


class TimeoutError(TricorneError, builtins.TimeoutError):
    """What was waited for did not happen in time."""


class InvalidStateError(TricorneError, concurrent.futures.InvalidStateError):
    """The future is in a state that does not allow this."""


class BrokenExecutor(TricorneError, concurrent.futures.BrokenExecutor):
    """The executor can run no more tasks."""


class BrokenThreadPool(BrokenExecutor, concurrent.futures.thread.BrokenThreadPool):
    """An initializer of a worker of the thread pool has failed."""


class RemoteError(TricorneError, RuntimeError):
    """What a task raised in a worker process and what could not be sent, or not be read here: in words."""


class BrokenProcessPool(BrokenExecutor, concurrent.futures.process.BrokenProcessPool):
    """The process pool can run no more tasks: an initializer has failed, or workers cannot be started."""


class WorkerCrashed(BrokenProcessPool):
    """The worker process ended while it ran the task. No other task is lost, unless the pool was made with ``on_crash="break"``."""

    task: int
    """Number of the task within its pool."""
    pid: int
    """Process id of the worker."""
    exit_code: int | None
    """With which code it ended; None if a signal ended it, or nobody could tell."""
    signal: int | None
    """Which signal ended it, if one did."""
    peak_memory: int | None
    """The most memory in bytes that it had resident at once, where the system has told."""
    cause: str | None
    """Why, as far as it is known beyond that: ``"out_of_memory"`` (probably), ``"memory_limit"``, ``"garbage"`` (it sent nonsense),
    ``"ended"`` (the pool was told to end its workers) or ``"exit_limit"`` (it did not end in time)."""
    stderr: tuple[str, ...]
    """The last lines that it wrote to stderr, where the pool reads them."""

    def __init__(
        self,
        message: str = "the worker process ended",
        *,
        task: int = 0,
        pid: int = 0,
        exit_code: int | None = None,
        signal: int | None = None,
        peak_memory: int | None = None,
        cause: str | None = None,
        stderr: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.task = task
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.peak_memory = peak_memory
        self.cause = cause
        self.stderr = stderr
