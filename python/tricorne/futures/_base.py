"""Future, Executor, and waiting for several futures."""

import asyncio
import collections
import concurrent.futures
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast

from tricorne import _native
from tricorne.errors import TimeoutError

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=concurrent.futures.Future[Any])

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"


class Future(_native.FutureCore[T], concurrent.futures.Future[T]):
    """A result that is not there yet.

    It is also a :class:`concurrent.futures.Future`, so asyncio and the standard :func:`concurrent.futures.wait` take it; and it can be
    awaited in asyncio. Cancelling the task that awaits cancels the future.

    Executors make futures, and end them with ``set_running_or_notify_cancel``, ``set_result`` and ``set_exception``.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in asyncio for what :meth:`result` would return or raise."""
        if not self.done():
            return (yield from asyncio.wrap_future(self).__await__())
        return self.result()


class DoneAndNotDoneFutures(NamedTuple, Generic[F]):
    """What :func:`wait` returns: two sets of futures."""

    done: set[F]
    not_done: set[F]


def wait(
    fs: Iterable[F], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDoneFutures[F]:
    """Wait for futures, Tricorne's and the standard library's alike, for at most ``timeout`` seconds.

    ``return_when`` is ``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``, and something else raises :class:`ValueError`. A
    future that comes twice counts once.

    A worker that waits for tasks of its own pool runs those that have not begun.
    """
    done, not_done = _native.wait_futures(fs, timeout, return_when)
    return DoneAndNotDoneFutures(done, not_done)


def as_completed(fs: Iterable[F], timeout: float | None = None) -> Iterator[F]:
    """Iterate over futures, Tricorne's and the standard library's alike, in the order in which they end.

    A future that comes twice is handed out once; none is kept once it was handed out. Raises :class:`TimeoutError` if not all have ended
    ``timeout`` seconds after this call.
    """
    return _native.AsCompleted(fs, timeout)


class Executor(concurrent.futures.Executor):
    """Runs calls in the background. This is the base of executors; a subclass has at least :meth:`submit` and :meth:`shutdown`."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called, and return its future."""
        raise NotImplementedError

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

        It is lazy: at most ``buffersize`` tasks have been submitted whose results were not yet taken, by default a few for each worker.
        The iterables are advanced by the thread that iterates.

        ``ordered=False`` hands out results as they come instead of in the order of the input. ``return_exceptions=True`` hands out what a
        call raised in place of its result; otherwise it is raised, and the rest is cancelled. ``chunksize`` is for processes.

        Raises :class:`TimeoutError` if a result is asked for that is not there ``timeout`` seconds after this call.
        """
        check_buffersize(buffersize)
        return generic_map(self, fn, zip(*iterables), timeout, buffersize or self._map_window(), ordered, return_exceptions)

    def _map_window(self) -> int:
        """How many tasks of a map to have submitted at a time."""
        return 32

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. ``wait`` waits for those submitted; ``cancel_futures`` cancels those that have not begun."""


def check_buffersize(buffersize: int | None) -> None:
    """Raise what :meth:`Executor.map` raises for a wrong ``buffersize``."""
    if buffersize is None:
        return
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def generic_map(
    executor: concurrent.futures.Executor,
    fn: Callable[..., T],
    input: Iterator[tuple[Any, ...]],
    timeout: float | None,
    window: int,
    ordered: bool,
    return_exceptions: bool,
) -> Iterator[T]:
    """A map over nothing but ``submit``: for executors that have no better one."""
    deadline = None if timeout is None else time.monotonic() + timeout
    # Oldest first. As in the standard library, the first tasks are submitted by the call, not by the first `next`.
    pending = collections.deque(executor.submit(fn, *args) for args in itertools.islice(input, window))

    def left() -> float | None:
        return None if deadline is None else deadline - time.monotonic()

    def results() -> Iterator[T]:
        try:
            while pending:
                for args in itertools.islice(input, 1):
                    pending.append(executor.submit(fn, *args))
                yield _take_result(pending, left(), ordered, return_exceptions)
        finally:
            for future in pending:
                future.cancel()

    return results()


def _take_result(
    pending: collections.deque[concurrent.futures.Future[T]], timeout: float | None, ordered: bool, return_exceptions: bool
) -> T:
    """The result of the oldest future, or of one that is done; the future is forgotten."""
    if ordered:
        future = pending.popleft()
    else:
        done = wait(pending, timeout, FIRST_COMPLETED).done
        if not done:
            raise TimeoutError
        future = next(future for future in pending if future in done)
        pending.remove(future)
        del done
    try:
        if not return_exceptions:
            return future.result(timeout)
        try:
            raised = future.exception(timeout)
        except concurrent.futures.CancelledError as cancelled:
            raised = cancelled
        return future.result() if raised is None else cast(T, raised)
    finally:
        future.cancel()
        # What the result refers to does not refer back to it through a traceback.
        del future
