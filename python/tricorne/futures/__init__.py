"""Futures and executors: ``concurrent.futures`` under another name, faster and safer.

>>> from tricorne.futures import ThreadPoolExecutor, as_completed
>>> with ThreadPoolExecutor() as pool:
...     list(pool.map(len, ["a", "tricorne"]))
[1, 8]

Everything that the standard module has is here and behaves the same. On top of it: ``map`` is lazy and bounded, futures can be
awaited, context variables reach the tasks of threads, a pool of threads cannot wait for itself, a crash in a process costs one task,
``with_options`` gives tasks a time limit and further attempts, and :class:`AsyncExecutor` runs coroutine functions.

The exceptions are the standard library's, so that ``except`` finds those of its futures too; Tricorne raises subclasses of them that are
also :class:`tricorne.TricorneError`.
"""

import threading as _threading
from builtins import TimeoutError
from concurrent.futures import BrokenExecutor, CancelledError, InvalidStateError

from tricorne.futures import process, thread
from tricorne.futures._async import AsyncExecutor, AsyncFuture
from tricorne.futures._base import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    DoneAndNotDoneFutures,
    Executor,
    Future,
    as_completed,
    finish_maps,
    wait,
)
from tricorne.futures._options import ExecutorWithOptions, Retry
from tricorne.futures.process import ProcessPoolExecutor, ProcessPoolStats
from tricorne.futures.thread import ThreadPoolExecutor, ThreadPoolStats

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AsyncExecutor",
    "AsyncFuture",
    "BrokenExecutor",
    "CancelledError",
    "DoneAndNotDoneFutures",
    "Executor",
    "ExecutorWithOptions",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "ProcessPoolStats",
    "Retry",
    "ThreadPoolExecutor",
    "ThreadPoolStats",
    "TimeoutError",
    "as_completed",
    "process",
    "thread",
    "wait",
]

for _public in (AsyncExecutor, AsyncFuture, DoneAndNotDoneFutures, Executor, ExecutorWithOptions, Future, Retry, as_completed, wait):
    _public.__module__ = __name__
del _public

# Those that were registered last come first: the rest of the maps is submitted before the executors take no more.
_threading._register_atexit(finish_maps)  # type: ignore[attr-defined]
del finish_maps
