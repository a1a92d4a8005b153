"""The async executor: coroutine functions on an event loop in a thread of its own."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, ParamSpec, TypeAlias, TypeVar

from tricorne.errors import BrokenExecutor
from tricorne.futures._base import Executor, Future

P = ParamSpec("P")
T = TypeVar("T")


class AsyncFuture(Future[T]):
    """The future of a coroutine. Cancelling it cancels the coroutine, also when it is under way."""

    _executor: "AsyncExecutor | None" = None
    _started = False

    def cancel(self) -> bool:
        """Cancel the coroutine: :class:`asyncio.CancelledError` is raised inside it if it has begun.

        Returns False if it has ended already, otherwise True: the future is cancelled at once, whatever the coroutine does about it.
        """
        executor = self._executor
        cancelled = self._cancel_and_notify()
        if cancelled and executor is not None:
            executor._cancel(self)
        return cancelled

    def running(self) -> bool:
        """True if the coroutine has begun and not ended."""
        return self._started and not self.done()


class AsyncExecutor(Executor):
    """Runs coroutine functions on an event loop in a thread of its own, behind the same :class:`Future` as threads.

    Use it for work that waits, such as requests, from code that is not async. Its futures can be awaited in other event loops too. Each
    task sees the context variables as they were when it was submitted.

    At the end of the program the coroutines that were submitted are run to their end. A forked child has no event loop: submitting there
    starts a new one.
    """

    def __init__(self, max_tasks: int | None = None, *, thread_name: str = "AsyncExecutor") -> None:
        """Make an executor that has at most ``max_tasks`` coroutines under way, by default as many as are submitted.

        Raises :class:`ValueError` if ``max_tasks`` is less than 1.
        """
        if max_tasks is not None and max_tasks < 1:
            raise ValueError("max_tasks must be greater than 0")
        self._max_tasks = max_tasks
        self._thread_name = thread_name
        self._engine: _Engine | None = None
        self._shut_down = False

    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncFuture[T]:  # type: ignore[override]
        """Have the coroutine ``fn(*args, **kwargs)`` run, and return its future.

        Raises RuntimeError after :meth:`shutdown` and when the interpreter ends.
        """
        future: AsyncFuture[T] = AsyncFuture()
        future._executor = self
        context = contextvars.copy_context()
        with _lock:
            if _at_exit:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._engine is None or self._engine.pid != os.getpid():
                self._engine = _Engine(self._thread_name, self._max_tasks)
                weakref.finalize(self, self._engine.finish).atexit = False
            self._engine.submit(future, context, fn, args, kwargs)
        return future

    def map(  # type: ignore[override]
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """Run the coroutine ``fn(item)`` for each item of the iterables, and iterate over the results; see :meth:`Executor.map`.

        By default 4 times ``max_tasks`` coroutines are submitted ahead, or 256 without ``max_tasks``.
        """
        results: Iterator[Any] = super().map(
            fn,
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
            return_exceptions=return_exceptions,
        )
        return results

    def _cancel(self, future: AsyncFuture[Any]) -> None:
        engine = self._engine
        if engine is not None:
            engine.cancel(future)

    def _map_window(self) -> int:
        return 4 * self._max_tasks if self._max_tasks else 256

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more coroutines; those that were submitted run to their end, and so do the rest of maps that were not iterated.

        ``wait`` waits for that. ``cancel_futures`` cancels those that have not begun, which there are only with ``max_tasks``.
        """
        engine = self._engine
        wait = wait and (engine is None or engine.thread is not threading.current_thread())
        failure = self._end_maps(wait, cancel_futures)
        with _lock:
            self._shut_down = True
            engine = self._engine
        if engine is not None and engine.pid == os.getpid():
            engine.finish(cancel_futures)
            if wait:
                engine.thread.join()
        if failure is not None:
            raise failure


class _Engine:
    """The event loop and its thread, for one process."""

    def __init__(self, thread_name: str, max_tasks: int | None) -> None:
        self.pid = os.getpid()
        self.max_tasks = max_tasks
        self.loop = asyncio.new_event_loop()
        # Only the thread of the loop touches these.
        self.waiting: dict[AsyncFuture[Any], Callable[[], None]] = {}
        self.tasks: dict[AsyncFuture[Any], asyncio.Task[Outcome]] = {}
        self.finishing = False
        self.finished = False
        self.thread = threading.Thread(target=self.run, name=thread_name, daemon=True)
        self.thread.start()
        _engines.add(self)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self.finished:
                # Ended early by `loop.stop()`, or by a SystemExit in a task that a coroutine has left behind.
                logged(self.loop.run_forever)
            for step in (self.cancel_rest, self.loop.shutdown_asyncgens, self.loop.shutdown_default_executor):
                logged(lambda: self.loop.run_until_complete(step()))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def cancel_rest(self) -> None:
        """Cancel the tasks that the coroutines have left behind, as :func:`asyncio.run` does."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in rest:
            if not task.cancelled() and (raised := task.exception()) is not None:
                message = "unhandled exception when the event loop of an AsyncExecutor ends"
                self.loop.call_exception_handler({"message": message, "exception": raised, "task": task})

    def call(self, function: Callable[..., object], *args: object) -> bool:
        """Have the loop call this soon; False if it is closed: it has nothing left to do then."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            return False
        return True

    def submit(
        self,
        future: AsyncFuture[Any],
        context: contextvars.Context,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        def start() -> None:
            try:
                coroutine = context.run(fn, *args, **kwargs)
                if not asyncio.iscoroutine(coroutine):
                    raise TypeError(f"a coroutine was expected, got {coroutine!r}")
                task = self.loop.create_task(outcome(coroutine), context=context)
            except BaseException as raised:
                end(future, raised=raised)
                return
            future._started = True
            self.tasks[future] = task

            def ended(task: asyncio.Task[Outcome]) -> None:
                # One that was cancelled before its first step.
                coroutine.close()
                self.ended(future, task)

            task.add_done_callback(ended)

        if not self.call(self.enter, future, start):
            end(future, raised=BrokenExecutor("the event loop has ended"))

    def enter(self, future: AsyncFuture[Any], start: Callable[[], None]) -> None:
        self.waiting[future] = start
        self.start_next()

    def start_next(self) -> None:
        while self.waiting and (self.max_tasks is None or len(self.tasks) < self.max_tasks):
            future = next(iter(self.waiting))
            start = self.waiting.pop(future)
            if not future.done():
                start()
        if self.finishing and not self.waiting and not self.tasks:
            self.finished = True
            self.loop.stop()

    def ended(self, future: AsyncFuture[Any], task: "asyncio.Task[Outcome]") -> None:
        del self.tasks[future]
        if task.cancelled():
            logged(future._cancel_and_notify)
        else:
            result, raised = task.result()
            end(future, result, raised)
        self.start_next()

    def cancel(self, future: AsyncFuture[Any]) -> None:
        def cancel() -> None:
            self.waiting.pop(future, None)
            if (task := self.tasks.get(future)) is not None:
                task.cancel()
            self.start_next()

        self.call(cancel)

    def finish(self, cancel_futures: bool = False) -> None:
        """Run what was submitted, then end the loop and the thread."""

        def finish() -> None:
            self.finishing = True
            if cancel_futures:
                waiting = list(self.waiting)
                self.waiting.clear()
                for future in waiting:
                    logged(future._cancel_and_notify)
            self.start_next()

        self.call(finish)


Outcome: TypeAlias = tuple[Any, BaseException | None]


async def outcome(coroutine: Coroutine[Any, Any, Any]) -> Outcome:
    """What a coroutine returns or raises. A SystemExit or KeyboardInterrupt that a task raised would end the loop."""
    try:
        return await coroutine, None
    except asyncio.CancelledError:
        raise
    except BaseException as raised:
        return None, raised


def end(future: Future[Any], result: Any = None, raised: BaseException | None = None) -> None:
    """End a future, unless it was cancelled meanwhile. What its callbacks raise does not reach the loop."""

    def set_outcome() -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if raised is None:
                future.set_result(result)
            else:
                future.set_exception(raised)

    logged(set_outcome)


def logged(function: Callable[[], object]) -> None:
    """Call this; what it raises is logged, also a SystemExit."""
    try:
        function()
    except BaseException:
        logging.getLogger("concurrent.futures").exception("in the event loop of an AsyncExecutor")


_engines: "weakref.WeakSet[_Engine]" = weakref.WeakSet()
_at_exit = False

# Of all executors: held while one looks whether it may submit, and does. Reentrant, as finalizers and signal handlers may come between.
_lock = threading.RLock()


def _renew_lock() -> None:
    """In a forked child, where the thread that held it is gone."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def _finish_engines() -> None:
    global _at_exit
    with _lock:
        _at_exit = True
    engines = [engine for engine in _engines if engine.pid == os.getpid()]
    for engine in engines:
        engine.finish()
    for engine in engines:
        engine.thread.join()


threading._register_atexit(_finish_engines)  # type: ignore[attr-defined]
