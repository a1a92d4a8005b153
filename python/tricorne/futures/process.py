"""The process pool."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Literal, NamedTuple, ParamSpec, Self, TypeVar, cast

from tricorne import _native, _worker, errors
from tricorne.errors import RemoteError, TimeoutError, WorkerCrashed
from tricorne.futures import _codec
from tricorne.futures._base import Executor, Future, GenericMap, check_buffersize
from tricorne.futures._codec import _RemoteTraceback
from tricorne.futures._launch import ContextLauncher
from tricorne.futures._options import ExecutorWithOptions, Retry, _Task

__all__ = ["BrokenProcessPool", "OutputLine", "ProcessFuture", "ProcessPoolExecutor", "ProcessPoolStats", "WorkerCrashed"]

P = ParamSpec("P")
T = TypeVar("T")

_pool_number = itertools.count().__next__
_chunk_number = itertools.count(1).__next__

# Functions without a name that a pool remembers.
_MAX_REMEMBERED = 256
# The most results of a map that are ahead of the one that was taken.
_MAX_AHEAD = 16 * 1024


class ProcessPoolStats(NamedTuple):
    """The figures of a process pool at one moment."""

    max_workers: int
    """The most worker processes there will be."""
    workers: int = 0
    """Worker processes that are there, those included that start or end."""
    idle: int = 0
    """Workers that have nothing to do."""
    queued: int = 0
    """Tasks that wait for a worker, cancelled ones included."""
    in_flight: int = 0
    """Tasks that were sent to a worker and have not ended."""
    running: int = 0
    """Those of them that run."""
    completed: int = 0
    """Tasks that have returned or raised so far."""
    crashed: int = 0
    """Tasks that were lost with their worker so far."""
    timed_out: int = 0
    """Tasks whose time-out has ended them so far."""
    cancelled: int = 0
    """Tasks that were cancelled or killed so far."""
    batches: int = 0
    """Batches of tasks that were sent to workers so far."""
    sent_again: int = 0
    """Tasks that were sent again so far, because their worker died or was too slow to begin them."""
    workers_started: int = 0
    """Workers that were started so far."""
    workers_ended: int = 0
    """Workers that have ended so far, for whatever reason."""


class OutputLine(NamedTuple):
    """A line that a worker wrote."""

    pid: int
    """Its process id."""
    stream: str
    """``"stdout"`` or ``"stderr"``."""
    text: str
    """The line without its end; at most 8 KiB."""


class ProcessFuture(Future[T]):
    """The future of a task in a process pool."""

    _task: _native.ProcessTask | None = None

    def cancel(self, *, kill: bool = False) -> bool:
        """Cancel the task if no worker has begun it. Returns False if one has or if the task is done, otherwise True.

        With ``kill`` a task that runs is cancelled as well: its worker process is killed and replaced. No other task is lost.
        """
        task = self._task
        if task is None:
            return super().cancel()
        if task.withdraw():
            return self._cancel_and_notify()
        if self.done():
            return self.cancelled()
        if not kill:
            return False
        return task.kill() and self._cancel_and_notify()

    def running(self) -> bool:
        """True if a worker runs the task."""
        task = self._task
        return task is not None and task.is_running() and not self.done()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the task and return what it returned; see :meth:`Future.result`."""
        try:
            task = self._task
            if task is not None and not self.done():
                task.attend(self, timeout)
            return super().result(timeout)
        finally:
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the task and return what it raised; see :meth:`Future.exception`."""
        try:
            task = self._task
            if task is not None and not self.done():
                task.attend(self, timeout)
            return super().exception(timeout)
        finally:
            del self


class _Handler:
    """Makes the exceptions of futures, for the native side; it must not keep the executor."""

    def __init__(self, break_on_crash: bool) -> None:
        self.break_on_crash = break_on_crash
        self.engine: Callable[[], _native.ProcessEngine | None] = lambda: None

    def failed(self, payload: Any, buffers: list[Any]) -> BaseException:
        packed = bytes(payload)
        raised = _codec.unpack_failure(packed)
        if self.break_on_crash and packed[:1] == _codec.UNREAD:
            return self.broken(raised, "a task could not be unpickled in its worker process")
        return raised

    def unread(self, raised: BaseException) -> BaseException:
        if self.break_on_crash:
            return self.broken(raised, "a result could not be unpickled")
        raised.add_note("The task has run; what it returned could not be unpickled here.")
        return raised

    def broken(self, raised: BaseException, message: str) -> BaseException:
        engine = self.engine()
        if engine is not None:
            engine.break_pool(message)
        broken = errors.BrokenProcessPool(f"{message}: {raised!r}")
        broken.__cause__ = raised
        return broken

    def lost(self, kind: str, text: str) -> BaseException:
        if kind == "timed_out":
            return TimeoutError(text)
        if kind == "transport":
            return RemoteError(text)
        if kind == "rejected":
            return RuntimeError("cannot schedule new futures after shutdown")
        return errors.BrokenProcessPool(text)

    def crashed(
        self,
        text: str,
        task: int,
        pid: int,
        exit_code: int | None,
        signal: int | None,
        peak_memory: int | None,
        cause: str | None,
        stderr: list[str],
    ) -> BaseException:
        return WorkerCrashed(
            text, task=task, pid=pid, exit_code=exit_code, signal=signal, peak_memory=peak_memory, cause=cause, stderr=tuple(stderr)
        )


# Those that have not ended, so that what was submitted is run also when their executor was dropped.
_engines: set[_native.ProcessEngine] = set()
_at_exit = False


class ProcessPoolExecutor(Executor, concurrent.futures.ProcessPoolExecutor):
    """Runs calls in worker processes: for Python code that keeps a core busy, and for whatever may crash.

    It is also a :class:`concurrent.futures.ProcessPoolExecutor`; of that class it uses nothing.

    A task that kills its process, or is killed with it, fails alone, with :class:`tricorne.WorkerCrashed`; the worker is replaced and
    everything else goes on. Small tasks travel many at a time, by what is measured, and still a crash costs the one that ran.

    Workers are started when there is work, as copies of a fresh interpreter that has imported nothing of the program: they never run its
    main script again, so no ``if __name__ == "__main__"`` is needed. Functions and classes that are defined in the main script, lambdas
    and closures are sent by value. Workers ignore Ctrl-C, so that this process decides, and die with it, however it ends.

    Large buffers (of numpy arrays, say) are not pickled but copied once, into shared memory, both ways; arrays stay writable.

    At the end of the program, and when the executor is dropped, all tasks that were submitted are run, unless Ctrl-C has ended it.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        on_crash: Literal["replace", "break"] = "replace",
        timeout: float | None = None,
        max_memory: int | None = None,
        inner_threads: int | None = None,
        stdout: Literal["inherit", "forward"] | Callable[[OutputLine], object] = "inherit",
        stderr: Literal["inherit", "forward"] | Callable[[OutputLine], object] = "forward",
    ) -> None:
        """Make a pool of at most ``max_workers`` processes, by default as many as the cores that this process may use.

        ``mp_context`` is one of :func:`multiprocessing.get_context`; then each worker is a ``Process`` of it, and ``initargs`` may hold
        its queues and locks. With the start method ``fork`` all workers are started by the first ``submit``.

        ``initializer(*initargs)`` is called by each worker before its first task; if it raises, the pool is broken: what waits and what is
        submitted later fails with :class:`BrokenProcessPool`. ``max_tasks_per_child`` replaces a worker after so many tasks.

        ``on_crash="break"`` is the conduct of the standard library: a worker that dies breaks the pool. ``timeout`` is in seconds and for
        each task, from the moment when it begins; then its worker is killed, and the task fails with :class:`TimeoutError`.
        ``max_memory`` is in bytes: a worker that has more of its own is killed, which fails its task with
        :class:`tricorne.WorkerCrashed`. ``inner_threads`` is for native libraries in the workers (OpenMP, BLAS); by default workers times
        inner threads are not more than the cores. What workers write to ``stdout`` and ``stderr`` goes where this process writes to
        (``"inherit"``), there by way of the pool (``"forward"``; of stderr the last lines are then in the report of a crash), or line by
        line to a function. With ``mp_context`` it is always inherited.

        Raises :class:`ValueError` and :class:`TypeError` for arguments that are not as said above.
        """
        if max_workers is None:
            max_workers = _default_workers()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if mp_context is not None and mp_context.get_start_method(allow_none=False) == "fork":
                raise ValueError("max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; supply another one")
        if on_crash not in ("replace", "break"):
            raise ValueError(f"on_crash is `{on_crash}`; it must be 'replace' or 'break'")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is `{timeout}`; it must be more than 0 seconds")
        for name, limit in (("max_memory", max_memory), ("inner_threads", inner_threads)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} is `{limit}`; it must be at least 1")
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._begin = (initializer, tuple(initargs))
        self._max_tasks_per_child = max_tasks_per_child
        self._break_on_crash = on_crash == "break"
        self._timeout = timeout
        self._max_memory = max_memory
        self._inner_threads = inner_threads or max(1, _native.usable_cores() // max_workers)
        self._stdout, self._stderr = _output(stdout), _output(stderr)
        self._lock = threading.Lock()
        self._is_shut_down = False
        self._engine: _native.ProcessEngine | None = None
        self._process = os.getpid()
        # Functions by what they are, with what they referred to and in the form in which workers are told.
        self._functions: dict[Any, tuple[tuple[object, ...] | None, _native.ProcessFunction | None]] = {}
        self._apply = _function(_worker.apply)

    # Submitting

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ProcessFuture[T]:
        """Have ``fn(*args, **kwargs)`` called in a worker process, and return its future.

        What cannot be pickled fails the future. Raises RuntimeError after :meth:`shutdown` and when the interpreter ends, and
        :class:`BrokenProcessPool` once the pool is broken.
        """
        return self._submit(self._timeout, fn, args, kwargs)

    def _submit(
        self, timeout: float | None, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ProcessFuture[T]:
        engine = self._ready_engine()
        future: ProcessFuture[T] = ProcessFuture()
        try:
            function = self._function(fn)
            if function is None:
                function, args = self._apply, (fn, *args)
            payload, buffers = _codec.dumps((args, kwargs))
        except Exception as raised:
            future.set_exception(raised)
            if self._mp_context is not None:
                # As in the standard library, workers are started all the same: their initializer may be what matters.
                engine.submit(ProcessFuture(), self._apply, *_codec.dumps(((int,), {})), None)
            return future
        future._task = engine.submit(future, function, payload, buffers, timeout)
        return future

    def _submit_many(
        self, timeout: float | None, fn: Callable[..., T], many: list[tuple[Any, ...]], chunked: bool
    ) -> list[ProcessFuture[T]]:
        """Submit tasks together; ``chunked`` has one worker take them all at once."""
        engine = self._ready_engine()
        function = self._function(fn, keep=True)
        futures, calls = [], []
        for args in many:
            future: ProcessFuture[T] = ProcessFuture()
            futures.append(future)
            try:
                payload, buffers = _codec.dumps((args, {}) if function is not None else ((fn, *args), {}))
            except Exception as raised:
                future.set_exception(raised)
                continue
            calls.append((future, payload, buffers))
        chunk = _chunk_number() if chunked else None
        tasks = engine.submit_many(calls, function or self._apply, timeout, chunk)
        for (future, _, _), task in zip(calls, tasks):
            future._task = task
        return futures

    def _function(self, fn: Callable[..., Any], keep: bool = False) -> _native.ProcessFunction | None:
        """The function as workers are told once; None if it has to come with its arguments.

        One that goes by value is told once it comes a second time and cannot have changed; ``keep`` tells it at once, for many tasks.
        """
        try:
            known = self._functions.get(fn)
        except TypeError:
            # It cannot be looked up.
            return None
        if known is not None and known[0] is None:
            return known[1]
        parts = _codec.fixed_parts(fn)
        if known is not None and known[1] is not None and _codec.is_same(known[0], parts):
            return known[1]
        if _codec.is_named(fn):
            parts = None
        elif parts is None and not (keep and isinstance(fn, type(_codec.is_named))):
            return None
        elif not keep and known is None:
            # Perhaps it comes once.
            self._remember(fn, parts, None)
            return None
        function = _function(fn)
        if parts is not None or _codec.is_named(fn):
            self._remember(fn, parts, function)
        return function

    def _batch_items(self, fn: Callable[..., Any]) -> int:
        """How many calls of the function travel together at present."""
        try:
            _, function = self._functions.get(fn, (None, None))
        except TypeError:
            function = None
        return 1 if function is None else function.batch_items()

    def _remember(self, fn: Any, parts: tuple[object, ...] | None, function: _native.ProcessFunction | None) -> None:
        if len(self._functions) >= _MAX_REMEMBERED:
            with contextlib.suppress(StopIteration, KeyError, RuntimeError):
                del self._functions[next(iter(self._functions))]
        self._functions[fn] = (parts, function)

    def _ready_engine(self) -> _native.ProcessEngine:
        engine = self._engine
        if engine is None or self._is_shut_down or self._process != os.getpid():
            with self._lock:
                engine = self._started_engine()
        refusal = engine.refusal()
        if refusal is None:
            return engine
        if refusal[0] == "broken":
            raise errors.BrokenProcessPool(refusal[1])
        raise RuntimeError(f"cannot schedule new futures after {'interpreter ' if _at_exit else ''}shutdown")

    def _started_engine(self) -> _native.ProcessEngine:
        if _at_exit:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._engine is not None and self._process == os.getpid():
            return self._engine
        # A forked child starts workers of its own.
        self._process = os.getpid()
        handler = _Handler(self._break_on_crash)
        launch: list[str] | ContextLauncher
        if self._mp_context is None:
            executable = sys.executable
            if not executable:
                raise RuntimeError("sys.executable is empty: there is no interpreter to start worker processes with; pass an mp_context")
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            launch = [executable, *flags, "-c", _worker.CODE, _worker.settings(self._inner_threads)]
            payload, buffers = _codec.dumps((self._begin, {}))
        else:
            # What the start method sends, locks and queues included, may not be sent otherwise.
            launch = ContextLauncher(self._mp_context, self._inner_threads, *self._begin)
            payload, buffers = _codec.dumps(((None, ()), {}))
        engine = _native.ProcessEngine(
            f"ProcessPoolExecutor-{_pool_number()}",
            self._max_workers,
            launch,
            handler,
            (_function(_worker.begin), payload, buffers),
            max_tasks=self._max_tasks_per_child,
            max_memory=self._max_memory,
            break_on_crash=self._break_on_crash,
            stdout=self._stdout,
            stderr=self._stderr,
        )
        handler.engine = weakref.ref(engine)
        for other in list(_engines):
            if other.join(0):
                _engines.discard(other)
        _engines.add(engine)
        finalizer = weakref.finalize(self, _close, engine, os.getpid())
        finalizer.atexit = False
        self._engine = engine
        return engine

    # Mapping

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """Call ``fn`` for each item of the iterables, several at a time, and iterate over the results.

        It is lazy: only so many tasks have been submitted whose results were not yet taken. ``buffersize`` says how many; by default it
        is two batches for each worker. The iterables are advanced by the thread that calls this, iterates, or calls :meth:`shutdown`,
        which runs the rest of maps that were not iterated to their end. A map that was iterated and dropped is cancelled.

        Items travel in batches that take a few milliseconds, by what is measured. ``chunksize`` sets the size instead.

        ``ordered=False`` hands out results as they come instead of in the order of the input. ``return_exceptions=True`` hands out what a
        call raised in place of its result; otherwise it is raised, and the rest is cancelled.

        Raises :class:`TimeoutError` if a result is asked for that is not there ``timeout`` seconds after this call.
        """
        check_buffersize(buffersize)
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if type(self).submit is not ProcessPoolExecutor.submit:
            # A subclass has something to do with each task.
            window = buffersize or self._map_window()
            return GenericMap(self, fn, zip(*iterables), timeout, window, ordered, return_exceptions).start()
        return _ProcessMap(self, fn, zip(*iterables), timeout, chunksize, buffersize, ordered, return_exceptions).start()

    def _map_window(self) -> int:
        return 4 * self._max_workers

    def with_options(self, *, timeout: float | None = None, retry: Retry | int | None = None) -> ExecutorWithOptions:
        """The same pool, with options for the tasks that are submitted through what this returns; see :class:`ExecutorWithOptions`.

        An attempt that takes longer than ``timeout`` seconds is ended with its worker process. A crash is worth another attempt, too, so
        ``retry`` is for tasks that may be run twice.
        """
        return _PoolWithOptions(self, timeout=timeout, retry=retry)

    # The end

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Shut down and wait; if Ctrl-C has ended the block, the workers are killed."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_workers()
        else:
            self.shutdown(wait=True)
        return None

    def __enter__(self) -> Self:
        return self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. Those that were submitted are run, and so are the rest of maps that were not iterated to their end.

        ``wait`` waits until all have ended and the workers are gone; those that have nothing to do have 5 seconds to end.
        ``cancel_futures`` cancels the tasks that no worker has begun or was started for, and the rest of maps. Calling it again is allowed.
        """
        failure = self._end_maps(wait, cancel_futures)
        with self._lock:
            self._is_shut_down = True
            engine = self._engine if self._process == os.getpid() else None
        if engine is not None:
            engine.close(cancel_futures)
            if wait and engine.join(None):
                _engines.discard(engine)
        if failure is not None:
            raise failure

    def terminate_workers(self) -> None:
        """End the pool with SIGTERM for all its workers, and SIGKILL for those that do not end within 5 seconds.

        What runs fails with :class:`tricorne.WorkerCrashed`, what waits is cancelled.
        """
        self._end_workers(force=False)

    def kill_workers(self) -> None:
        """End the pool with SIGKILL for all its workers. What runs fails with :class:`tricorne.WorkerCrashed`, what waits is cancelled."""
        self._end_workers(force=True)

    def _end_workers(self, force: bool) -> None:
        self._end_maps(wait=False, cancel=True)
        with self._lock:
            self._is_shut_down = True
            engine = self._engine if self._process == os.getpid() else None
        if engine is not None:
            engine.end_workers(force)
            if engine.join(None):
                _engines.discard(engine)

    # What it does

    def stats(self) -> ProcessPoolStats:
        """The figures of the pool at this moment."""
        engine = self._engine if self._process == os.getpid() else None
        return ProcessPoolStats(self._max_workers, **({} if engine is None else engine.stats()))

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that are there."""
        engine = self._engine if self._process == os.getpid() else None
        return [] if engine is None else engine.worker_pids()


class _PoolWithOptions(ExecutorWithOptions):
    _executor: ProcessPoolExecutor

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called with the options, and return its future."""
        timeout = self._executor._timeout if self._timeout is None else self._timeout
        if self._retry.attempts == 1:
            return self._executor._submit(timeout, fn, args, kwargs)
        task = _RetriedTask[T](self._executor, timeout, self._retry, functools.partial(fn, *args, **kwargs))
        task.submit()
        return task.future


class _RetriedTask(_Task[T]):
    call: functools.partial[T] | None

    def submit(self) -> None:
        """Make the next attempt; its time limit is kept by the pool."""
        if (call := self.call) is None:
            return
        executor = cast(ProcessPoolExecutor, self.executor)
        self.attempt = executor._submit(self.timeout, call.func, call.args, call.keywords)
        self.attempt.add_done_callback(self.attempt_ended)


class _ProcessMap(GenericMap[T]):
    """The map of a process pool: submits several tasks at a time."""

    executor: ProcessPoolExecutor

    def __init__(
        self,
        executor: ProcessPoolExecutor,
        fn: Callable[..., T],
        input: Iterator[tuple[Any, ...]],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        self.chunksize = chunksize
        self.buffersize = buffersize
        workers = executor._max_workers
        if chunksize is not None:
            # A chunk is not cut by the window.
            least = max(4 * workers, 2 * workers * chunksize)
            window = max(chunksize, least if buffersize is None else buffersize)
        else:
            window = buffersize or 4 * workers
        super().__init__(executor, fn, input, timeout, window, ordered, return_exceptions)

    def advance(self) -> Future[T] | None:
        """Submit some more; None if there is no more, or the last one."""
        with self.lock:
            if self.input is None:
                return None
            self.widen()
            executor = self.executor
            self.advancing = threading.get_ident()
            many: list[tuple[Any, ...]] = []
            room = self.chunksize or max(1, self.window - len(self.pending))
            give_up = time.monotonic() + 0.001
            try:
                try:
                    for args in itertools.islice(self.input, room):
                        many.append(args)
                        # What was read of a slow input is submitted. Looking at the clock costs more than a small input.
                        if self.chunksize is None and (len(many) < 8 or len(many) % 64 == 0) and time.monotonic() > give_up:
                            break
                    else:
                        if len(many) < room:
                            self.end_input()
                except Exception as raised:
                    self.failure = raised
                    self.end_input()
                if not many:
                    return None
                futures = executor._submit_many(executor._timeout, self.fn, many, self.chunksize is not None)
            except Exception as raised:
                self.failure = raised
                self.end_input()
                return None
            finally:
                self.advancing = None
            if self.iterator() is not None:
                self.pending.extend(futures)
            return futures[-1]

    @property
    def low(self) -> int:
        """Half of the window: many are submitted at a time."""
        return self.window // 2

    def end_input(self) -> None:
        """Submit no more; what has been submitted does not need the executor, which may be dropped."""
        if self.input is not None:
            super().end_input()
            del self.executor

    def widen(self) -> None:
        """As in the Rust pool: two batches for each worker, though not many more than have been taken so far."""
        if self.chunksize is not None or self.buffersize is not None:
            return
        batch = self.executor._batch_items(self.fn)
        least = 4 * self.executor._max_workers
        ahead = min(2 * self.executor._max_workers * batch, _MAX_AHEAD)
        self.window = max(least, min(ahead, 2 * self.taken))


def _close(engine: _native.ProcessEngine, process: int) -> None:
    """The executor was dropped: what was submitted is still run."""
    if process == os.getpid():
        engine.close(False)


def _function(fn: Callable[..., Any]) -> _native.ProcessFunction:
    return _native.ProcessFunction(*_codec.dumps(fn))


def _output(how: Any) -> Any:
    if callable(how):
        return lambda *line: how(OutputLine(*line))
    if how not in ("inherit", "forward"):
        raise ValueError(f"`{how}` is not 'inherit', 'forward' or a function")
    return how


def _default_workers() -> int:
    # Set by PYTHON_CPU_COUNT and -X cpu_count, from Python 3.13 on.
    told = getattr(sys.flags, "cpu_count", None)
    return told if told is not None and told > 0 else _native.usable_cores()


def _finish() -> None:
    """At the end of the program: what was submitted is run, unless Ctrl-C has ended it."""
    global _at_exit
    _at_exit = True
    interrupted = getattr(sys, "last_type", None)
    engines = list(_engines)
    for engine in engines:
        if isinstance(interrupted, type) and issubclass(interrupted, KeyboardInterrupt):
            engine.end_workers(True)
        else:
            engine.close(False)
    for engine in engines:
        try:
            engine.join(None)
        except KeyboardInterrupt:
            for other in engines:
                other.end_workers(True)
            engine.join(None)
            raise


def _forget_in_child() -> None:
    """The engines of the parent are not touched again: they are leaked."""
    _leaked.extend(_engines)
    _engines.clear()


_leaked: collections.deque[_native.ProcessEngine] = collections.deque()

os.register_at_fork(after_in_child=_forget_in_child)

# As in the standard library: the tasks of the main program are run before its other threads are waited for.
threading._register_atexit(_finish)  # type: ignore[attr-defined]

# Of the standard library's module; pickles and tests name it there.
assert _RemoteTraceback.__module__ == __name__
