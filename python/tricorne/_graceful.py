"""An orderly end on Ctrl-C and on SIGTERM."""

import concurrent.futures
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from tricorne import _native
from tricorne.futures import Executor

__all__ = ["Graceful", "graceful"]


# For each handler that a block has set: what asks the block to stop.
_marks: dict[Any, Callable[[int], None]] = {}


class _Hurry(BaseException):
    """A signal has come while the rest of maps was run."""


class Graceful:
    """What :func:`graceful` gives to its block: whether to stop, and how it ended."""

    def __init__(self) -> None:
        self.token = _native.CancelToken()
        """Cancelled by the first signal; give it, or children of it, to the work."""
        self.signal: int | None = None
        """The signal that asked to stop, if one did."""
        self.drained = True
        """After the block: whether the executors had ended their tasks within the limit."""
        self._may_hurry = False

    @property
    def exit_code(self) -> int:
        """What a program exits with: 128 and the number of the signal, such as 130 for Ctrl-C, or 0 if there was none."""
        return 0 if self.signal is None else 128 + self.signal

    def is_set(self) -> bool:
        """Whether a signal has asked to stop."""
        return self.token.is_cancelled()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a signal asks to stop, for at most ``timeout`` seconds, and return whether one has."""
        return self.token.wait(timeout)


@contextlib.contextmanager
def graceful(
    *executors: concurrent.futures.Executor,
    timeout: float = 10.0,
    signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[Graceful]:
    """Turn the first signal into a request to stop, and end the executors in an orderly way.

    >>> import sys
    >>> from tricorne import graceful
    >>> from tricorne.futures import ThreadPoolExecutor
    >>> with graceful(pool := ThreadPoolExecutor(4), timeout=5.0) as stop:
    ...     while not stop.wait(0.01):
    ...         break  # some work
    >>> stop.exit_code  # for sys.exit
    0

    The first signal cancels ``stop.token`` and interrupts nothing: the block sees ``stop.is_set()`` and comes to its own end. A second
    one raises :class:`KeyboardInterrupt` in the block.

    After the block the executors are shut down. Without a signal all their tasks are run. After a signal, or an exception, the tasks that
    have not begun are cancelled, and those that run have ``timeout`` seconds; ``stop.drained`` says whether that was enough. Threads
    cannot be stopped: the interpreter waits for them at its end, unless the program leaves by ``os._exit(stop.exit_code)``. The handlers
    that were there before are put back.

    Blocks may be nested: a signal asks those around the inner one to stop, too.

    What shutting an executor down raises, such as what the input of a map raised that nobody iterated, is raised after the block. The
    input of such a map is advanced by this thread; a signal meanwhile ends that.

    Signals are handled by the main thread, so elsewhere this raises :class:`ValueError`, as it does for a negative ``timeout``.
    """
    if not timeout >= 0:
        raise ValueError(f"timeout is `{timeout}`; it must be 0 seconds or more")
    stop = Graceful()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        mark(number)
        if stop._may_hurry:
            stop._may_hurry = False
            raise _Hurry

    def mark(number: int) -> None:
        """This block is to stop, and so are those around it."""
        stop.signal = stop.signal or number
        stop.token.cancel()
        outer = before.get(number)
        if (mark_outer := _marks.get(outer)) is not None:
            mark_outer(number)

    before: dict[int, Any] = {}
    _marks[handle] = mark
    try:
        for number in signals:
            before[number] = signal.signal(number, handle)
        try:
            yield stop
        except BaseException:
            _drain(stop, executors, timeout, cancel=True)
            raise
        _drain(stop, executors, timeout, cancel=False)
    finally:
        for number, handler in before.items():
            # None is a handler that Python has not set and cannot put back.
            if handler is not None:
                signal.signal(number, handler)
        del _marks[handle]


def _drain(stop: Graceful, executors: tuple[concurrent.futures.Executor, ...], timeout: float, cancel: bool) -> None:
    """Shut the executors down, with the limit once there is a reason to hurry, which may come meanwhile."""
    failures: list[BaseException] = []

    def shut_down(executor: concurrent.futures.Executor) -> None:
        try:
            executor.shutdown()
        except BaseException as raised:
            failures.append(raised)

    if not cancel and not stop.is_set():
        # In this thread: the input of a map may belong to it.
        failures += _run_out_maps(stop, executors)
    # Threads, so that a signal can still hurry the end.
    threads = [threading.Thread(target=shut_down, args=(executor,), daemon=True) for executor in executors]
    hurried = cancel or stop.is_set()
    end = time.monotonic() + timeout
    if hurried:
        _cancel(executors)
    for thread in threads:
        thread.start()
    while (alive := next((thread for thread in threads if thread.is_alive()), None)) is not None:
        if not hurried and stop.is_set():
            hurried = True
            end = time.monotonic() + timeout
            _cancel(executors)
        if hurried and time.monotonic() >= end:
            stop.drained = False
            return
        # Short, so that a signal meanwhile is noticed.
        alive.join(min(0.05, max(0.0, end - time.monotonic())) if hurried else 0.05)
    # An exception of the block is the one to be seen.
    if failures and not cancel:
        raise failures[0]


def _run_out_maps(stop: Graceful, executors: tuple[concurrent.futures.Executor, ...]) -> list[BaseException]:
    """Run the rest of maps, until a signal comes. Returns what their inputs raised."""
    failures: list[BaseException] = []
    with contextlib.suppress(_Hurry):
        stop._may_hurry = not stop.is_set()
        for executor in executors:
            if isinstance(executor, Executor) and not stop.is_set():
                try:
                    executor._run_out_maps()
                except Exception as raised:
                    failures.append(raised)
        stop._may_hurry = False
    return failures


def _cancel(executors: tuple[concurrent.futures.Executor, ...]) -> None:
    for executor in executors:
        executor.shutdown(wait=False, cancel_futures=True)
