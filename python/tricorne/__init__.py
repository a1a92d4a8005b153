"""Concurrent data work from Python: web pages or files in, a clean data set out.

>>> from tricorne import Pipeline
>>> report = Pipeline.from_toml("plan.toml").run()  # doctest: +SKIP
>>> report["rows"]  # doctest: +SKIP
9412

The same from a shell is ``tricorne run plan.toml``, or ``python -m tricorne run plan.toml``.
"""

from tricorne._graceful import Graceful, graceful
from tricorne._native import CancelGuard, CancelToken, __version__
from tricorne.caller import Caller, CallerStats
from tricorne.errors import (
    BrokenExecutor,
    BrokenProcessPool,
    BrokenThreadPool,
    CancelledError,
    InvalidStateError,
    PlanError,
    RemoteError,
    RunError,
    TimeoutError,
    TricorneError,
    WorkerCrashed,
)
from tricorne.pipeline import Pipeline

__all__ = [
    "BrokenExecutor",
    "BrokenProcessPool",
    "BrokenThreadPool",
    "Caller",
    "CallerStats",
    "CancelGuard",
    "CancelToken",
    "CancelledError",
    "Graceful",
    "InvalidStateError",
    "Pipeline",
    "PlanError",
    "RemoteError",
    "RunError",
    "TimeoutError",
    "TricorneError",
    "WorkerCrashed",
    "__version__",
    "graceful",
]
