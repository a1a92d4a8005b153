"""The async forms of a queue whose items are in a Python container.

A queue keeps its items in native memory until somebody asks for what the standard library's queue has as plain attributes (``queue``,
``mutex``, ``not_empty``, …), or a subclass overrides a hook. From then on it is *open*. Its plain methods are native ones all the same; these
coroutines are the rest. ``state`` is what the queue has instead of native memory, with the attributes of the same names.
"""

from queue import Empty, Full
from time import monotonic
from typing import Any, Protocol

from tricorne._native import Condition, Queue

__all__ = ["get_async", "join_async", "put_async"]


class State(Protocol):
    """What an open queue has instead of native memory."""

    maxsize: int
    unfinished_tasks: int
    is_shutdown: bool

    @property
    def not_empty(self) -> Condition: ...
    @property
    def not_full(self) -> Condition: ...
    @property
    def all_tasks_done(self) -> Condition: ...

    def add(self, queue: Queue[Any], item: Any) -> None:
        """Put an item in. The mutex is held, and there is room."""

    def take(self, queue: Queue[Any]) -> Any:
        """Take an item out. The mutex is held, and there is one."""


def _shut_down() -> Exception:
    from tricorne.queue import ShutDown

    return ShutDown()


def _time_left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - monotonic()


async def put_async(queue: Queue[Any], state: State, item: Any, timeout: float | None) -> None:
    """Put an item in, waiting for room for at most ``timeout`` seconds."""
    deadline = None if timeout is None else monotonic() + timeout
    async with state.not_full:
        while True:
            if state.is_shutdown:
                raise _shut_down()
            if not 0 < state.maxsize <= queue._qsize():
                break
            left = _time_left(deadline)
            if left is not None and left <= 0:
                raise Full
            await state.not_full.wait_async(left)
        state.add(queue, item)


async def get_async(queue: Queue[Any], state: State, timeout: float | None) -> Any:
    """Take an item out, waiting for one for at most ``timeout`` seconds."""
    deadline = None if timeout is None else monotonic() + timeout
    async with state.not_empty:
        while not queue._qsize():
            if state.is_shutdown:
                raise _shut_down()
            left = _time_left(deadline)
            if left is not None and left <= 0:
                raise Empty
            await state.not_empty.wait_async(left)
        return state.take(queue)


async def join_async(state: State) -> None:
    """Wait until every item that was put in has been dealt with."""
    async with state.all_tasks_done:
        while state.unfinished_tasks > 0:
            await state.all_tasks_done.wait_async()
