"""The pools that can be tested, each behind the few methods that the tests need."""

import concurrent.futures
import importlib
import importlib.metadata
import multiprocessing
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

__all__ = ["IMPLEMENTATIONS", "Implementation", "NotOffered", "Options", "Pool", "open_pool"]


class NotOffered(Exception):
    """The pool has nothing of the kind."""


class Options(NamedTuple):
    """How a pool is made."""

    workers: int = 2
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    timeout: float | None = None
    """Seconds after which a task that runs is killed."""
    max_memory: int | None = None
    """Bytes of a worker."""
    max_tasks: int | None = None
    """Tasks after which a worker is replaced."""


class Pool:
    """A pool that is shaped as those of ``concurrent.futures``; others override what differs."""

    inner: Any

    def __init__(self, options: Options) -> None:
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Start a task and return what has its ``result(timeout)``."""
        return self.inner.submit(fn, *args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """The map of the pool with its defaults, or what it has that is nearest to a lazy one."""
        return iter(self.inner.map(fn, items))

    def cancel_running(self, future: Any) -> bool:
        """End a task that runs."""
        raise NotOffered("no call ends one task that runs")

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None:
        """End the pool; with ``cancel`` without the tasks that have not begun."""
        self.inner.shutdown(wait=wait, cancel_futures=cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A test that has failed says so, and does not wait for a pool that may hang.
        if kind is None:
            self.shutdown()


def _arguments(options: Options) -> dict[str, Any]:
    return {"initializer": options.initializer, "initargs": options.initargs}


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise NotOffered(f"no {name.replace('_', ' ')}")


class TricornePool(Pool):
    """The pool of this package."""

    def __init__(self, options: Options) -> None:
        made = importlib.import_module("tricorne.futures").ProcessPoolExecutor
        self.inner = made(
            options.workers,
            timeout=options.timeout,
            max_memory=options.max_memory,
            max_tasks_per_child=options.max_tasks,
            **_arguments(options),
        )

    def cancel_running(self, future: Any) -> bool:
        return bool(future.cancel(kill=True))


class StandardPool(Pool):
    """That of the standard library, with the start method that is the default of this Python."""

    def __init__(self, options: Options) -> None:
        _refuse(time_out_of_a_task=options.timeout, memory_limit=options.max_memory)
        more: dict[str, Any] = {}
        if options.max_tasks is not None:
            # It is not to be had with `fork`.
            context = multiprocessing.get_context("forkserver")
            more = {"max_tasks_per_child": options.max_tasks, "mp_context": context}
        self.inner = concurrent.futures.ProcessPoolExecutor(options.workers, **more, **_arguments(options))


class LokyPool(Pool):
    """loky."""

    def __init__(self, options: Options) -> None:
        _refuse(time_out_of_a_task=options.timeout, memory_limit=options.max_memory, tasks_per_worker=options.max_tasks)
        self.inner = importlib.import_module("loky").ProcessPoolExecutor(options.workers, **_arguments(options))

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None:
        if cancel:
            raise NotOffered("shutdown has no cancel_futures")
        self.inner.shutdown(wait=wait)


class PebblePool(Pool):
    """Pebble."""

    def __init__(self, options: Options) -> None:
        _refuse(memory_limit=options.max_memory)
        self.timeout = options.timeout
        arguments = {**_arguments(options), "initargs": list(options.initargs)}
        self.inner = importlib.import_module("pebble").ProcessPool(options.workers, max_tasks=options.max_tasks or 0, **arguments)

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        return self.inner.schedule(fn, args=args, timeout=self.timeout)

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        return iter(self.inner.map(fn, items).result())

    def cancel_running(self, future: Any) -> bool:
        return bool(future.cancel())

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None:
        if cancel:
            raise NotOffered("stop() ends what runs as well")
        self.inner.close()
        if wait:
            self.inner.join()


class _MpireResult:
    def __init__(self, result: Any) -> None:
        self.inner = result

    def result(self, timeout: float | None = None) -> Any:
        return self.inner.get(timeout)


class MpirePool(Pool):
    """mpire."""

    def __init__(self, options: Options) -> None:
        # It has `worker_lifespan` for its maps, not for `apply_async`.
        _refuse(memory_limit=options.max_memory, tasks_per_worker=options.max_tasks)
        self.options = options
        self.inner = importlib.import_module("mpire").WorkerPool(n_jobs=options.workers)

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        initialize = self.options.initializer
        start = None if initialize is None else _Begin(initialize, self.options.initargs)
        return _MpireResult(self.inner.apply_async(fn, args, worker_init=start, task_timeout=self.options.timeout))

    def map(self, fn: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        return iter(self.inner.imap(fn, ((item,) for item in items)))

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None:
        if cancel:
            raise NotOffered("terminate() ends what runs as well")
        self.inner.stop_and_join()


class _Begin:
    def __init__(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.fn, self.args = fn, args

    def __call__(self) -> None:
        self.fn(*self.args)


class Implementation(NamedTuple):
    """A pool by its name."""

    name: str
    module: str
    """What is imported."""
    open: Callable[[Options], Pool]

    def version(self) -> str | None:
        """Its version, None if it is not installed."""
        if self.name == "stdlib":
            return platform.python_version()
        try:
            return importlib.metadata.version(self.module)
        except importlib.metadata.PackageNotFoundError:
            return None


IMPLEMENTATIONS = {
    made.name: made
    for made in (
        Implementation("tricorne", "tricorne", TricornePool),
        Implementation("stdlib", "concurrent.futures", StandardPool),
        Implementation("loky", "loky", LokyPool),
        Implementation("pebble", "pebble", PebblePool),
        Implementation("mpire", "mpire", MpirePool),
    )
}
"""All of them, by name."""


def open_pool(name: str, workers: int = 2, **options: Any) -> Pool:
    """Make a pool: what a user's script would do. Raises :class:`NotOffered` if it has no such option."""
    return IMPLEMENTATIONS[name].open(Options(workers, **options))
