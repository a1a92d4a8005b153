"""Future, Executor, and waiting for several futures."""

import asyncio
import collections
import concurrent.futures
import contextlib
import os
import threading
import time
import weakref
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
        window = buffersize or self._map_window()
        return GenericMap(self, fn, zip(*iterables), timeout, window, ordered, return_exceptions).start()

    def _map_window(self) -> int:
        """How many tasks of a map to have submitted at a time."""
        return 32

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. ``wait`` waits for those submitted; ``cancel_futures`` cancels those that have not begun.

        A subclass calls this first: it submits the rest of maps that were not iterated to their end, or ends them with
        ``cancel_futures``.
        """
        failure = self._end_maps(wait, cancel_futures)
        if failure is not None:
            raise failure

    # The maps whose input is not used up. Those of a view are in the books of what it is a view of.
    _maps: "list[GenericMap[Any]] | None" = None

    def _keeper(self) -> "Executor":
        return self

    def _keep(self, map: "GenericMap[Any]") -> None:
        if self._maps is None:
            self._maps = []
        self._maps.append(map)

    def _let_go(self, map: "GenericMap[Any]") -> None:
        with contextlib.suppress(ValueError):
            (self._maps or []).remove(map)

    def _run_out_maps(self) -> None:
        """Submit the rest of the maps that are not iterated to their end, as ``shutdown`` does, in this thread."""
        failure = self._end_maps(wait=True, cancel=False)
        if failure is not None:
            raise failure

    def _end_maps(self, wait: bool, cancel: bool) -> Exception | None:
        """Run the rest of the maps, or end them. Returns the first thing that an input raised whose map has no consumer."""
        failures = []
        for map in list(self._maps or ()):
            try:
                if cancel:
                    map.end_input()
                else:
                    map.run_out(wait)
            except Exception as raised:
                failures.append(raised)
        return failures[0] if failures else None


def check_buffersize(buffersize: int | None) -> None:
    """Raise what :meth:`Executor.map` raises for a wrong ``buffersize``."""
    if buffersize is None:
        return
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


class GenericMap(Generic[T]):
    """A map over nothing but ``submit``: for executors that have no better one.

    It is in the books of its executor as long as its input is not used up, so that ``shutdown`` can run the rest, as the standard
    library's has run it. What was iterated and then dropped is cancelled instead.
    """

    def __init__(
        self,
        executor: "Executor",
        fn: Callable[..., T],
        input: Iterator[tuple[Any, ...]],
        timeout: float | None,
        window: int,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        self.executor = executor
        self.fn = fn
        self.input: Iterator[tuple[Any, ...]] | None = input
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.window = window
        self.ordered = ordered
        self.return_exceptions = return_exceptions
        self.process = os.getpid()
        # How many results have been asked for.
        self.taken = 0
        # Oldest first.
        self.pending: collections.deque[Future[T]] = collections.deque()
        # What the input or `submit` raised: the last thing to be handed out.
        self.failure: Exception | None = None
        self.lock = threading.Lock()
        self.advancing: int | None = None

    def start(self) -> Iterator[T]:
        """The iterator. As in the standard library, the first tasks are submitted now, not by the first ``next``."""
        iterator = self.results()
        self.iterator = weakref.ref(iterator)
        try:
            while len(self.pending) < self.window and self.advance() is not None:
                pass
        except BaseException:
            self.close()
            raise
        if self.failure is not None and not self.pending:
            raise self.failure
        if self.input is not None:
            self.executor._keeper()._keep(self)
            _open_maps.add(self)
        return iterator

    def advance(self) -> Future[T] | None:
        """Submit one more; None if there is no more."""
        with self.lock:
            if self.input is None:
                return None
            self.advancing = threading.get_ident()
            try:
                args = next(self.input, None)
                if args is None:
                    self.end_input()
                    return None
                future = self.executor.submit(self.fn, *args)
            except Exception as raised:
                self.failure = raised
                self.end_input()
                return None
            finally:
                self.advancing = None
            if self.iterator() is not None:
                self.pending.append(future)
            return future

    @property
    def low(self) -> int:
        """With so many tasks ahead or fewer, the input is advanced."""
        return self.window

    def results(self) -> Generator[T, None, None]:
        try:
            while True:
                ended = len(self.pending) <= self.low and self.advance() is None
                if self.pending:
                    left = None if self.deadline is None else self.deadline - time.monotonic()
                    self.taken += 1
                    yield _take_result(self.pending, left, self.ordered, self.return_exceptions)
                elif ended:
                    break
            failure, self.failure = self.failure, None
            if failure is not None:
                raise failure
        finally:
            failure = None
            self.close()

    def run_out(self, wait: bool) -> None:
        """Submit the rest of the input; ``wait`` keeps to the window meanwhile."""
        # A forked child leaves it to its parent; and an input that shuts the executor down cannot be advanced before it returns.
        if self.process != os.getpid() or self.advancing == threading.get_ident():
            return
        paced: collections.deque[Future[T]] = collections.deque()
        while (future := self.advance()) is not None:
            paced.append(future)
            if len(paced) > self.window:
                oldest = paced.popleft()
                if wait:
                    with contextlib.suppress(concurrent.futures.CancelledError):
                        oldest.exception()
        if self.iterator() is None and self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def end_input(self) -> None:
        """Submit no more."""
        self.input = None
        self.executor._keeper()._let_go(self)

    def close(self) -> None:
        """Submit no more, and cancel what has not begun."""
        self.end_input()
        for future in self.pending:
            future.cancel()

    def __del__(self) -> None:
        # The executor was dropped, and nobody iterated.
        if self.input is not None:
            self.run_out(wait=False)


_open_maps: "weakref.WeakSet[GenericMap[Any]]" = weakref.WeakSet()


def finish_maps() -> None:
    """The first step at the end of the program: end the pauses before further attempts, and run the rest of the maps that nobody iterated."""
    _native.hurry_timer()
    failures = []
    for map in list(_open_maps):
        try:
            map.run_out(wait=True)
        except Exception as raised:
            failures.append(raised)
    if failures:
        raise failures[0]


def _take_result(
    pending: collections.deque[Future[T]], timeout: float | None, ordered: bool, return_exceptions: bool
) -> T:
    """The result of the oldest future, or of one that is done; the future is forgotten."""
    if ordered:
        future = pending.popleft()
    else:
        # A copy: another thread may run the map out meanwhile.
        waiting = list(pending)
        done = wait(waiting, timeout, FIRST_COMPLETED).done
        if not done:
            raise TimeoutError
        future = next(future for future in waiting if future in done)
        pending.remove(future)
        del done, waiting
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
