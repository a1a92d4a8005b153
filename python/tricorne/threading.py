"""Threads and the primitives between them: a drop-in for :mod:`threading`.

``import tricorne.threading as threading`` gives the whole of the standard module. The primitives are native ones: `Lock`, `RLock`,
`Condition`, `Semaphore`, `BoundedSemaphore`, `Event` and `Barrier`; everything else is the standard library's own, and to set it here, such as ``threading.excepthook``, is to set it there.

What they do beyond their namesakes:

* They work between threads **and** asyncio tasks, which stand in one line: ``async with lock`` (also for a semaphore or a condition), and
  the forms that end in ``_async``: ``acquire_async``, ``wait_async``, ``wait_for_async``. To cancel such a task loses nothing.
* ``stats()`` says how much has been waited for a primitive; ``RLock.locked`` and ``Condition.locked`` are there on every version.
* Waits end on Ctrl-C in the main thread, and go on with the time that is left after a signal handler that returns.
* After ``os.fork()`` the child knows nothing of the threads that waited in the parent. What another thread *held* stays held, as with the
  standard library.

Time limits are in seconds. The async forms are for :mod:`asyncio`.
"""

import sys
import threading as _threading
from threading import (
    TIMEOUT_MAX,
    BrokenBarrierError,
    ExceptHookArgs,
    Thread,
    ThreadError,
    Timer,
    active_count,
    current_thread,
    enumerate,
    excepthook,
    get_ident,
    get_native_id,
    getprofile,
    gettrace,
    local,
    main_thread,
    setprofile,
    settrace,
    stack_size,
)
from types import ModuleType as _ModuleType
from typing import Any as _Any

from tricorne._native import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
    WaitStats,
)

__all__ = [
    "TIMEOUT_MAX",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "ExceptHookArgs",
    "Lock",
    "RLock",
    "Semaphore",
    "Thread",
    "ThreadError",
    "Timer",
    "WaitStats",
    "active_count",
    "current_thread",
    "enumerate",
    "excepthook",
    "get_ident",
    "get_native_id",
    "getprofile",
    "gettrace",
    "local",
    "main_thread",
    "setprofile",
    "settrace",
    "stack_size",
]

if sys.version_info >= (3, 12):
    from threading import setprofile_all_threads, settrace_all_threads

    __all__ += ["setprofile_all_threads", "settrace_all_threads"]


def __getattr__(name: str) -> _Any:
    # Later names and private ones, too: code finds here whatever the standard module has.
    return getattr(_threading, name)


_ours = frozenset(name for name in __all__ if globals()[name] is not getattr(_threading, name, None))


class _Module(_ModuleType):
    """What is not ours is set in the standard module, too: that is where hooks such as ``excepthook`` are looked for."""

    def __setattr__(self, name: str, value: object) -> None:
        ours = name in _ours or (name.startswith("__") and name.endswith("__"))
        if not ours:
            setattr(_threading, name, value)
        if ours or name in vars(self):
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in vars(self):
            super().__delattr__(name)
        if name not in _ours:
            delattr(_threading, name)


sys.modules[__name__].__class__ = _Module
