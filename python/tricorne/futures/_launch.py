"""Workers that are processes of a context of multiprocessing."""

from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from tricorne import _worker


class ContextLauncher:
    """Starts workers with ``context.Process``; the engine calls it."""

    def __init__(
        self, context: Any, inner_threads: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.context = context
        self.inner_threads = inner_threads
        self.initializer = initializer
        self.initargs = initargs
        self.processes: dict[int, Any] = {}
        # A process that has threads is not copied if it can be avoided: all workers are made before the pool has a thread.
        self.at_once = context.get_start_method(allow_none=False) == "fork"

    def launch(self, worker: int, socket: int, board: int, lifeline: int) -> None:
        """Start one, with these descriptors."""
        ends: tuple[Any, ...] = (socket, board, lifeline)
        if not self.at_once:
            ends = tuple(_Descriptor(end) for end in ends)
        args = (*ends, self.inner_threads, self.initializer, self.initargs)
        process = self.context.Process(target=_worker.adopted, args=args)
        process.start()
        self.processes[worker] = process

    def ended(self, worker: int) -> int | None:
        """How it has ended, as ``wait`` reports it."""
        process = self.processes.pop(worker)
        # It has: this takes only as long as it takes to be told.
        process.join(1.0)
        code: int | None = process.exitcode
        if code is None:
            return None
        process.close()
        return -code if code < 0 else code << 8


class _Descriptor:
    """A descriptor that is pickled when a process is started."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (reduction.DupFd(self.number),)


def _same(end: Any) -> Any:
    return end


