"""The exceptions of Tricorne.

Each also inherits the standard exception that callers already catch. What the system refuses (a file that cannot be read or
written) stays a plain :class:`OSError`.
"""

import builtins
import concurrent.futures
import concurrent.futures.thread

__all__ = [
    "BrokenExecutor",
    "BrokenThreadPool",
    "CancelledError",
    "InvalidStateError",
    "PlanError",
    "RunError",
    "TimeoutError",
    "TricorneError",
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
