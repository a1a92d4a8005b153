"""Requests and answers between many callers and few workers: one slot for each request, batches, limits, an orderly end."""

import asyncio
import builtins
import contextlib
import contextvars
import itertools
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

from tricorne import queue
from tricorne.errors import InvalidStateError, TimeoutError
from tricorne.futures import Future
from tricorne.futures.thread import after_pools

__all__ = ["Caller", "CallerStats"]

logger = logging.getLogger("concurrent.futures")

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class CallerStats(NamedTuple):
    """The figures of a caller at one moment."""

    waiting: int
    """Requests in the queue."""
    requests: int
    """Requests accepted so far."""
    answered: int
    """Requests that got an answer."""
    failed: int
    """Requests whose call raised something."""
    dropped: int
    """Requests that were cancelled or out of time before their call."""
    calls: int
    """Calls of the function: with batches, fewer than there are requests."""


class _Slot(Generic[Request, Answer]):
    """A request and the future that only its caller has: an answer can reach nobody else, and is kept by nobody else."""

    __slots__ = ("deadline", "future", "number", "request")

    def __init__(self, number: int, request: Request, deadline: float | None) -> None:
        self.number = number
        self.request = request
        self.deadline = deadline
        self.future: Future[Answer] = Future()


class Caller(Generic[Request, Answer]):
    """Calls a function for many callers by a few threads, one request or one batch at a time.

    >>> from tricorne import Caller
    >>> with Caller(str.upper, workers=2) as caller:
    ...     caller.call("hello")
    'HELLO'

    With ``max_batch`` the function gets a list of requests and returns a list of as many answers; an answer that is an exception is raised
    for its caller alone:

    >>> with Caller(lambda texts: [len(text) for text in texts], max_batch=16, max_wait=0.002) as caller:
    ...     caller.call("hello")
    5

    What a call raises is raised by whoever asked. The queue of requests is bounded: callers wait for room. Closing answers the requests
    that were accepted, and refuses others; so does the end of the program. It belongs to the process that made it.

    What a call for several requests raises is raised, one and the same exception, by each of those who asked.

    The function should not ask its own caller: with all workers waiting, nobody would answer.
    """

    @overload
    def __init__(
        self,
        fn: Callable[[Request], Answer],
        *,
        workers: int = 1,
        max_batch: None = None,
        max_wait: float = 0.0,
        max_queue: int = 1024,
        timeout: float | None = None,
        name: str = "Caller",
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[list[Request]], Iterable[Answer]],
        *,
        workers: int = 1,
        max_batch: int,
        max_wait: float = 0.0,
        max_queue: int = 1024,
        timeout: float | None = None,
        name: str = "Caller",
    ) -> None: ...
    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        workers: int = 1,
        max_batch: int | None = None,
        max_wait: float = 0.0,
        max_queue: int = 1024,
        timeout: float | None = None,
        name: str = "Caller",
    ) -> None:
        """Start ``workers`` threads that call ``fn``.

        ``max_batch`` is the most requests of one call; without it each call has one request, not a list. ``max_wait`` is for how many
        seconds a call waits for more requests once it has one. ``max_queue`` bounds the requests that wait. ``timeout`` is in seconds, for
        requests that bring none of their own.

        Raises :class:`ValueError` if a number is out of range.
        """
        for what, number in (("workers", workers), ("max_batch", 1 if max_batch is None else max_batch), ("max_queue", max_queue)):
            if number < 1:
                raise ValueError(f"{what} is `{number}`; at least 1 is needed")
        if not 0 <= max_wait <= threading.TIMEOUT_MAX:
            raise ValueError(f"max_wait is `{max_wait}`; it must be a number of seconds, at most {threading.TIMEOUT_MAX:.0f}")
        check_timeout(timeout)
        self._fn = fn
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._timeout = timeout
        self._process = os.getpid()
        self._numbers = itertools.count(1)
        self._requests: queue.Queue[_Slot[Request, Answer]] = queue.Queue(max_queue)
        self._counts = _Counts()
        work = _Work(self)
        # Not those of a pool: at the end of the program pools are finished first, as their tasks may ask callers.
        self._threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work,), name=f"{name}_{number}", daemon=False)
            for number in range(workers)
        ]
        _open.add(self)
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, *, timeout: float | None = None) -> Future[Answer]:
        """Ask, waiting for room in the queue, and return the future of the answer.

        A request whose call has not begun ``timeout`` seconds from now is not made: its future raises :class:`TimeoutError`. Raises
        :class:`TimeoutError` if there is no room in that time, and RuntimeError if the caller is closed.
        """
        slot = self._slot(request, timeout)
        try:
            self._requests.put(slot, timeout=_left(slot.deadline))
        except queue.Full:
            raise TimeoutError("no room in the queue of requests") from None
        except queue.ShutDown:
            raise RuntimeError("the caller is closed") from None
        self._counts.add(requests=1)
        return slot.future

    def call(self, request: Request, *, timeout: float | None = None) -> Answer:
        """Ask and wait for the answer, for at most ``timeout`` seconds in all.

        Raises what the call raised, :class:`TimeoutError` if there is no answer in time (a late one is dropped), and RuntimeError if the
        caller is closed.
        """
        deadline = self._deadline(timeout)
        future = self.submit(request, timeout=_left(deadline))
        try:
            return future.result(_left(deadline))
        finally:
            # Nobody is there any more to hear the answer.
            future.cancel()

    async def acall(self, request: Request, *, timeout: float | None = None) -> Answer:
        """Like :meth:`call`, for asyncio. Cancelling the task that awaits cancels the request, unless its call has begun."""
        slot = self._slot(request, timeout)
        try:
            await self._requests.put_async(slot, _left(slot.deadline))
        except queue.Full:
            raise TimeoutError("no room in the queue of requests") from None
        except queue.ShutDown:
            raise RuntimeError("the caller is closed") from None
        self._counts.add(requests=1)
        limit = asyncio.timeout(_left(slot.deadline))
        try:
            async with limit:
                return await slot.future
        except builtins.TimeoutError as raised:
            if not limit.expired():
                # The call itself has raised it.
                raise
            raise TimeoutError("no answer in time") from raised
        finally:
            slot.future.cancel()

    def close(self, wait: bool = True, *, cancel: bool = False) -> None:
        """Accept no more requests. Those that were accepted are answered, or cancelled with ``cancel`` if their call has not begun.

        ``wait`` waits for that. Closing again is allowed.
        """
        if self._process != os.getpid():
            return
        self._requests.shutdown()
        if cancel:
            with contextlib.suppress(queue.Empty, queue.ShutDown):
                while True:
                    self._requests.get_nowait().future._cancel_and_notify()
        if wait:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join()

    def stats(self) -> CallerStats:
        """The figures at this moment."""
        return CallerStats(self._requests.qsize(), *self._counts.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None) -> None:
        """Close, and answer what was accepted; after an exception cancel it."""
        self.close(cancel=raised is not None)

    def _deadline(self, timeout: float | None) -> float | None:
        check_timeout(timeout)
        timeout = self._timeout if timeout is None else timeout
        return None if timeout is None else time.monotonic() + timeout

    def _slot(self, request: Request, timeout: float | None) -> _Slot[Request, Answer]:
        if self._process != os.getpid():
            raise RuntimeError("the caller belongs to the process that this one was forked from")
        return _Slot(next(self._numbers), request, self._deadline(timeout))


class _Counts:
    """What is counted, under a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._answered = self._failed = self._dropped = self._calls = 0

    def add(self, requests: int = 0, answered: int = 0, failed: int = 0, dropped: int = 0, calls: int = 0) -> None:
        with self._lock:
            self._requests += requests
            self._answered += answered
            self._failed += failed
            self._dropped += dropped
            self._calls += calls

    def read(self) -> tuple[int, int, int, int, int]:
        with self._lock:
            return self._requests, self._answered, self._failed, self._dropped, self._calls


class _Work:
    """What each worker does until the queue is closed and empty. It does not keep the caller: one that is dropped is closed."""

    def __init__(self, caller: Caller[Any, Any]) -> None:
        self.fn = caller._fn
        self.max_batch = caller._max_batch
        self.max_wait = caller._max_wait
        self.requests = caller._requests
        self.counts = caller._counts
        weakref.finalize(caller, self.requests.shutdown).atexit = False

    def __call__(self) -> None:
        while batch := self.next_batch():
            try:
                self.answer(batch)
            except BaseException as raised:
                # Of our own doing; the callers are not to wait for ever.
                for slot in batch:
                    _end(slot.future, _Raised(raised))
                logger.exception("exception in a worker of a Caller")
            # Nothing of a batch is kept while waiting for the next.
            del batch

    def next_batch(self) -> list[_Slot[Any, Any]]:
        """Wait for a request, and for more as long as that is asked for; nothing at the end."""
        most = self.max_batch or 1
        try:
            batch = self.requests.get_many(most)
        except queue.ShutDown:
            return []
        end = time.monotonic() + self.max_wait
        while len(batch) < most and (left := end - time.monotonic()) > 0:
            try:
                batch += self.requests.get_many(most - len(batch), left)
            except (queue.Empty, queue.ShutDown):
                break
        return batch

    def answer(self, batch: list[_Slot[Any, Any]]) -> None:
        """Answer the requests. In the end nothing is left in this frame, which the traceback of what is raised leads to."""
        now = time.monotonic()
        begun = [slot for slot in batch if self.begins(slot, now)]
        self.counts.add(dropped=len(batch) - len(begun))
        if begun:
            answers = self.answers([slot.request for slot in begun])
            failed = sum(isinstance(answer, _Raised) for answer in answers)
            self.counts.add(answered=len(begun) - failed, failed=failed, calls=1)
            while begun:
                _end(begun.pop(0).future, answers.pop(0))
        batch.clear()

    def begins(self, slot: _Slot[Any, Any], now: float) -> bool:
        """Whether the request is still to be made."""
        if slot.deadline is not None and slot.deadline <= now:
            _end(slot.future, _Raised(TimeoutError("the request was not made in time")))
            return False
        return slot.future.set_running_or_notify_cancel()

    def answers(self, requests: list[Any]) -> list[Any]:
        """Call the function."""
        count = len(requests)
        try:
            if self.max_batch is None:
                return [self.fn(requests.pop())]
            answers = [_Raised(answer) if isinstance(answer, BaseException) else answer for answer in self.fn(requests)]
            if (got := len(answers)) != count:
                answers.clear()
                raise ValueError(f"the function returned {got} answers to {count} requests")
            return answers
        except BaseException as raised:
            return [_Raised(raised)] * count
        finally:
            del requests


class _Raised:
    """Something to raise, as opposed to an answer."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception


def _end(future: Future[Any], answer: Any) -> None:
    """End a future, unless it was cancelled meanwhile. What its callbacks raise stays here, also a SystemExit."""
    try:
        with contextlib.suppress(InvalidStateError):
            if isinstance(answer, _Raised):
                future.set_exception(answer.exception)
            else:
                future.set_result(answer)
    except BaseException:
        logger.exception("exception in a callback of a request")


def check_timeout(timeout: float | None) -> None:
    """Raise :class:`ValueError` for a limit that is none."""
    if timeout is not None and math.isnan(timeout):
        raise ValueError("timeout is not a number")


def _left(deadline: float | None) -> float | None:
    """Seconds until then, not less than zero."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


_open: "weakref.WeakSet[Caller[Any, Any]]" = weakref.WeakSet()


def _close_all() -> None:
    """At the end of the program, after the tasks of pools and before the threads are waited for, which never end while a queue is open."""
    for caller in list(_open):
        caller.close(wait=False)


after_pools.append(_close_all)
