"""A queue whose inside Python code can see: the slow, fully compatible way of working of `tricorne.queue.Queue`.

A queue keeps its items in native memory until somebody asks for what the standard library's queue has as plain attributes (``queue``,
``mutex``, ``not_empty``, …), or a subclass overrides a hook (``_init``, ``_put``, ``_get``, ``_qsize``). From then on it is *open*: the items
are in a Python container, every method works on it under ``mutex`` through the hooks, and what the caller does under ``mutex`` counts.

The functions here are the methods of an open queue. They take the queue, for its hooks, and its state.
"""

from __future__ import annotations

from queue import Empty, Full
from time import monotonic
from typing import TYPE_CHECKING, Any

from tricorne._native import Condition, Lock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tricorne.queue import Queue

__all__ = ["State"]


class State:
    """What an open queue has instead of native memory."""

    __slots__ = (
        "all_tasks_done",
        "is_shutdown",
        "maxsize",
        "mutex",
        "not_empty",
        "not_full",
        "queue",
        "unfinished_tasks",
    )

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.mutex = Lock()
        self.not_empty = Condition(self.mutex)
        self.not_full = Condition(self.mutex)
        self.all_tasks_done = Condition(self.mutex)
        self.unfinished_tasks = 0
        self.is_shutdown = False
        self.queue: Any = None


def _shut_down() -> Exception:
    from tricorne.queue import ShutDown

    return ShutDown()


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return monotonic() + timeout


def put(queue: Queue[Any], state: State, item: Any, block: bool = True, timeout: float | None = None) -> None:
    with state.mutex:
        if state.is_shutdown:
            raise _shut_down()
        if state.maxsize > 0:
            if not block:
                if queue._qsize() >= state.maxsize:
                    raise Full
            else:
                deadline = _deadline(timeout)
                while queue._qsize() >= state.maxsize:
                    left = None if deadline is None else deadline - monotonic()
                    if left is not None and left <= 0:
                        raise Full
                    state.not_full.wait(left)
                    if state.is_shutdown:
                        raise _shut_down()
        _add(queue, state, item)


def get(queue: Queue[Any], state: State, block: bool = True, timeout: float | None = None) -> Any:
    with state.mutex:
        if not block:
            if not queue._qsize():
                raise _shut_down() if state.is_shutdown else Empty
        else:
            deadline = _deadline(timeout)
            while not queue._qsize():
                if state.is_shutdown:
                    raise _shut_down()
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise Empty
                state.not_empty.wait(left)
        return _take(queue, state)


async def put_async(queue: Queue[Any], state: State, item: Any, timeout: float | None = None) -> None:
    deadline = _deadline(timeout)
    async with state.not_full:
        while True:
            if state.is_shutdown:
                raise _shut_down()
            if not 0 < state.maxsize <= queue._qsize():
                break
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise Full
            await state.not_full.wait_async(left)
        _add(queue, state, item)


async def get_async(queue: Queue[Any], state: State, timeout: float | None = None) -> Any:
    deadline = _deadline(timeout)
    async with state.not_empty:
        while not queue._qsize():
            if state.is_shutdown:
                raise _shut_down()
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise Empty
            await state.not_empty.wait_async(left)
        return _take(queue, state)


def _add(queue: Queue[Any], state: State, item: Any) -> None:
    queue._put(item)
    state.unfinished_tasks += 1
    state.not_empty.notify()


def _take(queue: Queue[Any], state: State) -> Any:
    item = queue._get()
    state.not_full.notify()
    return item


def task_done(queue: Queue[Any], state: State) -> None:
    with state.mutex:
        if state.unfinished_tasks <= 0:
            raise ValueError("task_done() called too many times")
        state.unfinished_tasks -= 1
        if not state.unfinished_tasks:
            state.all_tasks_done.notify_all()


def join(queue: Queue[Any], state: State) -> None:
    with state.mutex:
        while state.unfinished_tasks:
            state.all_tasks_done.wait()


async def join_async(queue: Queue[Any], state: State) -> None:
    async with state.all_tasks_done:
        while state.unfinished_tasks:
            await state.all_tasks_done.wait_async()


def qsize(queue: Queue[Any], state: State) -> int:
    with state.mutex:
        return queue._qsize()


def shutdown(queue: Queue[Any], state: State, immediate: bool = False) -> None:
    # Freed after the mutex is: an item may use the queue when it dies.
    dropped = []
    with state.mutex:
        state.is_shutdown = True
        if immediate:
            while queue._qsize():
                dropped.append(queue._get())
                if state.unfinished_tasks > 0:
                    state.unfinished_tasks -= 1
            state.all_tasks_done.notify_all()
        state.not_empty.notify_all()
        state.not_full.notify_all()


def move(queue: Queue[Any], state: State, items: Iterable[Any], unfinished: int, is_shutdown: bool) -> None:
    """Take over what was in native memory. The mutex is held."""
    queue._init(state.maxsize)
    # Not through `_put`: these were put already.
    container = state.queue
    for item in items:
        container.append(item)
    state.unfinished_tasks = unfinished
    state.is_shutdown = is_shutdown
