"""Options for tasks: a time limit, and further attempts."""

import concurrent.futures
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar, cast

from tricorne import _native
from tricorne.errors import InvalidStateError, TimeoutError
from tricorne.futures._base import Executor, Future

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a task is tried, and how long to wait in between.

    The delay before an attempt is drawn evenly from zero to a bound that doubles with each attempt, so that tasks which failed together
    do not come back together.
    """

    attempts: int = 3
    """Attempts in all, the first one included; at least 1."""
    base_secs: float = 0.0
    """The bound of the first delay in seconds. Zero tries again at once."""
    max_delay_secs: float = 20.0
    """The bound of any delay in seconds."""
    on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    """What is worth another attempt; anything else fails the task at once."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is `{self.attempts}`; at least 1 is needed")
        if self.base_secs < 0 or self.max_delay_secs < 0:
            raise ValueError("a delay is negative")

    def delay_secs(self, failed_attempts: int) -> float:
        """Draw how long to wait after so many failed attempts."""
        bound = min(self.max_delay_secs, self.base_secs * 2.0 ** min(failed_attempts - 1, 60))
        return random.uniform(0.0, bound)


class ExecutorWithOptions(Executor):
    """Another view of an executor: what is submitted here has a time limit, or is tried again, or both.

    ``timeout`` is in seconds and counts from the moment an attempt begins to run. A task that takes longer fails with
    :class:`TimeoutError`; a thread cannot be stopped, so it goes on, and what it returns is dropped.

    ``retry`` is a number of further attempts after the first, without delay, or a :class:`Retry`. A task that waits for its next attempt
    holds no worker. If the executor is shut down meanwhile, it fails with what its last attempt raised. The end of the program cuts the
    delay short.
    """

    def __init__(
        self, executor: concurrent.futures.Executor, *, timeout: float | None = None, retry: Retry | int | None = None
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is `{timeout}`; it must be more than 0 seconds")
        self._executor = executor
        self._timeout = timeout
        self._retry = Retry(attempts=1 + retry) if isinstance(retry, int) else retry or Retry(attempts=1)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called with the options, and return its future."""
        task = _Task[T](self._executor, self._timeout, self._retry, functools.partial(fn, *args, **kwargs))
        task.submit()
        return task.future

    def _map_window(self) -> int:
        return self._executor._map_window() if isinstance(self._executor, Executor) else super()._map_window()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the executor itself down."""
        failure = self._end_maps(wait, cancel_futures)
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
        if failure is not None:
            raise failure

    def _run_out_maps(self) -> None:
        failure = self._end_maps(wait=True, cancel=False)
        if isinstance(self._executor, Executor):
            self._executor._run_out_maps()
        if failure is not None:
            raise failure

    def _keeper(self) -> Executor:
        # One that is not ours knows of no maps: this view has them.
        return self._executor._keeper() if isinstance(self._executor, Executor) else self


class _OuterFuture(Future[T]):
    """The future of a task with options: it ends with the last of its attempts."""

    _task: "_Task[T] | None" = None

    def cancel(self) -> bool:
        """Cancel the task if no attempt runs. Returns False if one runs or the task is done, otherwise True."""
        task = self._task
        if task is not None and not self.done() and task.attempt is not None and not task.attempt.cancel():
            return False
        cancelled = self._cancel_and_notify()
        if cancelled and task is not None:
            # Also between two attempts: nothing waits for the next one to learn of it.
            task.forget()
        return cancelled

    def running(self) -> bool:
        """True if an attempt is being run."""
        task = self._task
        return task is not None and not self.done() and task.attempt is not None and task.attempt.running()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the task and return what it returned; see :meth:`Future.result`."""
        self._help()
        try:
            return super().result(timeout)
        finally:
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the task and return what it raised; see :meth:`Future.exception`."""
        self._help()
        try:
            return super().exception(timeout)
        finally:
            del self

    def _help(self) -> None:
        """A worker that waits for a task of its own pool runs it."""
        try:
            while (task := self._task) is not None and (attempt := task.attempt) is not None and _native.run_inline(attempt):
                pass
        finally:
            # As in `_Task.run`: an attempt that is run inline has this frame below it.
            del self
            task = attempt = None


class _Task(Generic[T]):
    """A task and its attempts, one after the other."""

    def __init__(
        self, executor: concurrent.futures.Executor, timeout: float | None, retry: Retry, call: Callable[[], T]
    ) -> None:
        self.executor = executor
        self.timeout = timeout
        self.retry = retry
        self.call: Callable[[], T] | None = call
        self.failed_attempts = 0
        self.attempt: concurrent.futures.Future[T] | None = None
        # The call that will make the next attempt.
        self.delay: _native.TimerHandle | None = None
        self.future: _OuterFuture[T] = _OuterFuture()
        self.future._task = self

    def submit(self) -> None:
        """Make the next attempt."""
        if (call := self.call) is None:
            return
        self.attempt = self.executor.submit(self.run, call)
        self.attempt.add_done_callback(self.attempt_ended)

    def run(self, call: Callable[[], T]) -> T:
        """An attempt, on a worker."""
        timer = None if self.timeout is None else _native.call_later(self.timeout, self.time_is_up)
        try:
            return call()
        finally:
            if timer is not None:
                timer.cancel()
            # The traceback of what was raised leads here, and from here it would lead to the future that has it.
            del self

    def attempt_ended(self, attempt: concurrent.futures.Future[T]) -> None:
        self.attempt = None
        if attempt.cancelled():
            self.future._cancel_and_notify()
            self.forget()
            return
        raised = attempt.exception()
        if raised is None:
            self.end(attempt.result())
            return
        self.failed_attempts += 1
        if self.future.done() or self.failed_attempts >= self.retry.attempts or not isinstance(raised, self.retry.on):
            self.end(raised=raised)
            return
        delay = self.retry.delay_secs(self.failed_attempts)
        if delay > 0:
            try:
                self.delay = _native.call_after_pause(delay, functools.partial(self.submit_again, raised))
            except RuntimeError:
                # The program ends, or there can be no more threads.
                self.end(raised=raised)
            if self.future.done():
                # Cancelled meanwhile.
                self.forget()
        else:
            self.submit_again(raised)

    def submit_again(self, raised: BaseException) -> None:
        self.delay = None
        if self.future.done():
            return
        try:
            self.submit()
        except RuntimeError:
            # Shut down meanwhile.
            self.end(raised=raised)

    def time_is_up(self) -> None:
        self.end(raised=TimeoutError(f"the task has run for {self.timeout} seconds"))

    def end(self, result: T | None = None, *, raised: BaseException | None = None) -> None:
        """End the future, unless it is done: it may have been cancelled, or out of time."""
        try:
            if raised is None:
                self.future.set_result(cast(T, result))
            else:
                self.future.set_exception(raised)
        except InvalidStateError:
            pass
        self.forget()

    def forget(self) -> None:
        """Keep nothing of what was called."""
        if (delay := self.delay) is not None:
            self.delay = None
            delay.cancel()
        self.call = None
        self.future._task = None
