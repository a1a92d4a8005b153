"""The thread pool."""

import concurrent.futures
import concurrent.futures.thread
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.thread import BrokenThreadPool
from typing import Any, NamedTuple, TypeVar

from tricorne import _native
from tricorne.futures._base import Executor, GenericMap, check_buffersize
from tricorne.futures._options import ExecutorWithOptions, Retry

__all__ = ["BrokenThreadPool", "ThreadPoolExecutor", "ThreadPoolStats"]

T = TypeVar("T")

# What the system gives to a thread of a Python program; pages are used only as far as the stack grows.
_STACK_BYTES = 8 * 1024 * 1024

_pool_number = itertools.count().__next__


class ThreadPoolStats(NamedTuple):
    """The figures of a thread pool at one moment."""

    max_workers: int
    """The most threads there will be."""
    workers: int
    """Threads that are alive."""
    running: int
    """Tasks being run."""
    queued: int
    """Tasks that wait for a worker, cancelled ones included."""
    submitted: int
    """Tasks submitted so far."""
    finished: int
    """Tasks that have ended so far, cancelled ones not included."""


class ThreadPoolExecutor(_native.ThreadPool, Executor, concurrent.futures.ThreadPoolExecutor):
    """Runs calls on threads: for native work that releases the interpreter, and for calls that wait.

    It is also a :class:`concurrent.futures.ThreadPoolExecutor`, so that ``loop.set_default_executor`` takes it; of that class it uses
    nothing.

    Threads start when they are needed: an idle one is used before a new one starts. Each task sees the context variables as they were
    when it was submitted. A task that waits for another task of its own pool runs it itself if no worker has begun it, so a pool does
    not wait for itself. At the end of the program, and when the executor is dropped, all tasks that were submitted are run.

    A forked child has the pool without its tasks and threads; those of the parent's futures that are not done raise
    :class:`tricorne.BrokenExecutor` there.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        """Make a pool of at most ``max_workers`` threads, by default the cores that this process may use and 4 more, at most 32.

        What counts are the affinity of the process and the CPU quota of its container, or ``PYTHON_CPU_COUNT`` if that is set.

        Threads are called ``thread_name_prefix``, an underscore and a number. ``initializer(*initargs)`` is called by each thread before
        its first task; if it raises, the pool is broken: what waits and what is submitted later fails with :class:`BrokenThreadPool`.

        Raises :class:`ValueError` if ``max_workers`` is less than 1, and :class:`TypeError` if ``initializer`` cannot be called.
        """
        if max_workers is None:
            max_workers = default_workers()
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        name = thread_name_prefix or f"ThreadPoolExecutor-{_pool_number()}"
        stack_bytes = threading.stack_size() or _STACK_BYTES
        self._max_workers = max_workers
        self._set_up(max_workers, name, initializer, tuple(initargs), stack_bytes)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """Call ``fn`` for each item of the iterables, several at a time, and iterate over the results.

        It is lazy: only so many tasks have been submitted whose results were not yet taken. ``buffersize`` says how many; by default it
        is 4 for each worker, and up to 512 in all while tasks are so short that it is worth it. The iterables are advanced by the thread that
        calls this, iterates, or calls :meth:`shutdown`, which without a ``buffersize`` runs the rest of maps that were not iterated to
        their end. A map that was iterated and dropped is cancelled.

        ``ordered=False`` hands out results as they come instead of in the order of the input. ``return_exceptions=True`` hands out what a
        call raised in place of its result; otherwise it is raised, and the rest is cancelled. ``chunksize`` is for processes.

        Raises :class:`TimeoutError` if a result is asked for that is not there ``timeout`` seconds after this call.
        """
        check_buffersize(buffersize)
        if type(self).submit is not _native.ThreadPool.submit:
            # A subclass has something to do with each task.
            window = buffersize or self._map_window()
            return GenericMap(self, fn, zip(*iterables), timeout, window, ordered, return_exceptions).start()
        return self._map(fn, zip(*iterables), timeout, buffersize, ordered, return_exceptions)

    def _map_window(self) -> int:
        return 4 * self._max_workers

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. Those that were submitted are run, and so are the rest of maps that were not iterated to their end.

        ``wait`` waits until all have ended and the workers are gone. ``cancel_futures`` cancels the rest of maps, and the tasks that have
        not begun; one that a worker is already on its way to counts as begun. Calling it again is allowed.

        The rest of a map is run also if some of its results were taken and it can still be iterated, as by the standard library: all its
        results can be had afterwards, and are kept until then. An input without end therefore needs a ``buffersize``, or to be closed.
        """
        failure = self._end_maps(wait, cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)
        if failure is not None:
            raise failure

    def _run_out_maps(self) -> None:
        failure = self._end_maps(wait=True, cancel=False)
        self._run_out()
        if failure is not None:
            raise failure

    def with_options(self, *, timeout: float | None = None, retry: Retry | int | None = None) -> ExecutorWithOptions:
        """The same pool, with options for the tasks that are submitted through what this returns; see :class:`ExecutorWithOptions`."""
        return ExecutorWithOptions(self, timeout=timeout, retry=retry)

    def stats(self) -> ThreadPoolStats:
        """The figures of the pool at this moment."""
        return ThreadPoolStats(self._max_workers, *self._stats())


def default_workers() -> int:
    """Threads of a pool that was not told how many: the cores that this process may use and 4 more, at most 32."""
    # Set by PYTHON_CPU_COUNT and -X cpu_count, from Python 3.13 on.
    told = getattr(sys.flags, "cpu_count", None)
    cores = told if told is not None and told > 0 else _native.usable_cores()
    return min(32, cores + 4)


after_pools: list[Callable[[], object]] = []
"""What to call at the end of the program once the pools have run their tasks, which may still use it."""


def _finish() -> None:
    try:
        _native.finish_pools()
    finally:
        for function in after_pools:
            function()


# As in the standard library: the tasks of the main program are run before its other threads are waited for.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
