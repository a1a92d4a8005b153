"""The program of worker processes: of the template that makes them, and of those that a start method of multiprocessing has started.

It imports little, and never the user's ``__main__``.
"""

import json
import logging
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

from tricorne import _native
from tricorne.futures import _codec

CODE = """\
import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)
import sys; sys.path[:] = __import__('json').loads(sys.argv[1])['path']
from tricorne._worker import main; main()
"""
"""What the template is started with, followed by :func:`settings`."""

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Variables by which native libraries learn how many threads to use."""


def settings(inner_threads: int | None) -> str:
    """What the template is told."""
    path = [folder for folder in sys.path if isinstance(folder, str)]
    return json.dumps({"path": path, "argv": sys.argv, "threads": inner_threads})


def main() -> None:
    """The template, and each worker that is made of it."""
    told = json.loads(sys.argv[1])
    sys.argv[:] = told["argv"]
    set_inner_threads(told["threads"])
    _native.serve_process_template(_fork, Worker)


def set_inner_threads(count: int | None) -> None:
    """For libraries that are imported later; what the user has set stays."""
    if count is not None:
        for name in THREADS:
            os.environ.setdefault(name, str(count))


def _fork() -> int:
    if len(os.listdir("/proc/self/task")) != 1:
        raise OSError("a process with several threads cannot make workers: something that Python imports at its start has started one")
    return os.fork()


def adopted(
    socket: Any, board: Any, lifeline: Any, inner_threads: int | None, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """A worker that ``multiprocessing.Process`` has started: the target of that process."""
    first, second, third = (end if isinstance(end, int) else end.detach() for end in (socket, board, lifeline))
    for end in (first, second, third):
        os.set_inheritable(end, False)
    set_inner_threads(inner_threads)
    _native.serve_process_worker(first, second, third, Worker(initializer, initargs))


def apply(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that comes with its arguments."""
    return function(*args, **kwargs)


def begin(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Before the first task of a worker."""
    if initializer is None:
        initializer, initargs = Worker.own_initializer
    if initializer is None:
        return
    try:
        initializer(*initargs)
    except BaseException:
        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
        raise


class _Unread:
    """A function that could not be unpickled."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised


class Worker:
    """Runs tasks; the native side calls it."""

    own_initializer: tuple[Callable[..., object] | None, tuple[Any, ...]] = (None, ())
    """What this process was given when it was started."""

    def __init__(self, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()) -> None:
        self.functions: dict[int, Any] = {}
        if initializer is not None:
            Worker.own_initializer = (initializer, initargs)

    def define(self, number: int, payload: Any, buffers: list[Any]) -> None:
        """Make a function known."""
        try:
            self.functions[number] = pickle.loads(payload, buffers=buffers)
        except BaseException as raised:
            self.functions[number] = _Unread(raised)

    def run(self, number: int, payload: Any, buffers: list[Any]) -> tuple[bool, bytes, list[memoryview]]:
        """Run a task: whether it failed, and what it returned or raised."""
        try:
            function = self.functions[number]
            if type(function) is _Unread:
                raise function.raised
            args, kwargs = pickle.loads(payload, buffers=buffers)
        except BaseException as raised:
            return True, _codec.pack_failure(raised, _codec.UNREAD, 1), []
        try:
            result = function(*args, **kwargs)
        except BaseException as raised:
            return True, _codec.pack_failure(raised, _codec.RAISED, 2 if function is apply else 1), []
        finally:
            del args, kwargs, payload, buffers
        try:
            packed, kept = _codec.dumps(result)
        except BaseException as raised:
            return True, _codec.pack_failure(raised, _codec.RAISED, 1), []
        return False, packed, kept

    def explain(self, payload: Any, buffers: list[Any]) -> str:
        """A failure in words."""
        raised = _codec.unpack_failure(bytes(payload))
        return f"{type(raised).__name__}: {raised}"
