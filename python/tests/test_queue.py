"""The queues beyond what CPython's own tests look at: opening, hooks, shutdown on every version, async forms, batches, memory."""

import asyncio
import copy
import gc
import inspect
import itertools
import pickle
import queue as standard
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tricorne.threading
from tricorne import queue

CLASSES = ["Queue", "LifoQueue", "PriorityQueue"]


class Open(queue.Queue[Any]):
    """A queue that is open from the start, for its hook."""

    def _put(self, item: Any) -> None:
        super()._put(item)


class OpenLifo(queue.LifoQueue[Any]):
    def _get(self) -> Any:
        return super()._get()


def looked_into(maxsize: int = 0) -> queue.Queue[Any]:
    made: queue.Queue[Any] = queue.Queue(maxsize)
    assert made.mutex is made.mutex
    return made


ALL: list[Callable[..., queue.Queue[Any]]] = [queue.Queue, queue.LifoQueue, queue.PriorityQueue, Open, OpenLifo, looked_into]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.001)


def started(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread that runs the function, and what comes of it."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def waiting(made: queue.Queue[Any]) -> Callable[[], bool]:
    """Whether a thread waits for the queue, of a queue that is not open."""
    return lambda: made.stats().get_wait_secs + made.stats().put_wait_secs > 0


def run(main: Callable[[], Awaitable[object]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), 60)

    asyncio.run(bounded())


def test_the_module_is_whole() -> None:
    for name in standard.__all__:
        assert hasattr(queue, name), name
    assert queue.Empty is standard.Empty and queue.Full is standard.Full
    if sys.version_info >= (3, 13):
        assert queue.ShutDown is standard.ShutDown


@pytest.mark.parametrize("name", [*CLASSES, "SimpleQueue"])
def test_each_class_reads_well(name: str) -> None:
    cls = getattr(queue, name)
    assert cls.__module__ == "tricorne.queue"
    assert inspect.signature(cls) is not None
    assert cls.__doc__ and f"queue.{name}" in cls.__doc__
    for member, value in vars(cls).items():
        if not member.startswith("_"):
            assert value.__doc__, f"{name}.{member} has no docstring"
    assert cls[int] is not None


@pytest.mark.parametrize("make", [*ALL, queue.SimpleQueue])
def test_nobody_gets_a_copy_by_accident(make: Callable[..., Any]) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            duplicate(make())


@pytest.mark.parametrize("make", ALL)
def test_shutdown_lets_the_rest_out(make: Callable[..., queue.Queue[Any]]) -> None:
    made = make(2)
    made.put(1)
    made.put(2)
    putter, put = started(lambda: made.put(3))
    until(lambda: made.qsize() == 2 and putter.is_alive())
    time.sleep(0.02)
    assert not made.is_shutdown
    made.shutdown()
    putter.join(30)
    assert put == [queue.ShutDown]
    assert made.is_shutdown
    with pytest.raises(queue.ShutDown):
        made.put_nowait(4)
    assert sorted([made.get(), made.get_nowait()]) == [1, 2]
    for get in (made.get, made.get_nowait, lambda: made.get(timeout=0.01)):
        with pytest.raises(queue.ShutDown):
            get()
    joiner, joined = started(made.join)
    made.task_done()
    made.task_done()
    joiner.join(30)
    assert joined == [None]


@pytest.mark.parametrize("make", ALL)
def test_an_immediate_shutdown_wakes_all(make: Callable[..., queue.Queue[Any]]) -> None:
    made = make()
    made.put(1)
    made.put(2)
    made.get()
    joiner, joined = started(made.join)
    time.sleep(0.02)
    made.shutdown(immediate=True)
    assert made.empty() and made.unfinished_tasks == 1
    made.task_done()
    joiner.join(30)
    assert joined == [None]
    empty = make()
    getters = [started(empty.get) for _ in range(3)]
    time.sleep(0.02)
    empty.shutdown(immediate=True)
    for thread, results in getters:
        thread.join(30)
        assert results == [queue.ShutDown]


@pytest.mark.parametrize("make", ALL)
def test_full_empty_and_time_limits(make: Callable[..., queue.Queue[Any]]) -> None:
    made = make(1)
    made.put(1, timeout=0)
    assert made.full() and made.maxsize == 1
    puts: list[Callable[[], object]] = [
        lambda: made.put_nowait(2),
        lambda: made.put(2, False, -1),
        lambda: made.put(2, timeout=0.01),
    ]
    for put in puts:
        with pytest.raises(queue.Full):
            put()
    with pytest.raises(ValueError, match="non-negative"):
        made.put(2, timeout=-1)
    assert made.get() == 1
    for get in (made.get_nowait, lambda: made.get(False, -1), lambda: made.get(timeout=0.01)):
        with pytest.raises(queue.Empty):
            get()
    with pytest.raises(ValueError, match="non-negative"):
        made.get(timeout=-1)
    made.task_done()
    with pytest.raises(ValueError, match="too many"):
        made.task_done()


def test_the_hooks_of_a_subclass_are_used() -> None:
    class Newest(queue.Queue[int]):
        """Keeps the last three only."""

        def _init(self, maxsize: int) -> None:
            self.items: deque[int] = deque(maxlen=3)

        def _qsize(self) -> int:
            return len(self.items)

        def _put(self, item: int) -> None:
            self.items.append(item)

        def _get(self) -> int:
            return self.items.popleft()

    newest = Newest()
    for number in range(6):
        newest.put(number)
    assert (newest.qsize(), [newest.get() for _ in range(3)]) == (3, [3, 4, 5])
    thread, results = started(newest.get)
    newest.put(6)
    thread.join(30)
    assert results == [6]


def test_a_subclass_with_methods_of_its_own_stays_native() -> None:
    class Counting(queue.Queue[int]):
        def __init__(self, label: str) -> None:
            super().__init__(5)
            self.label = label
            self.count = 0

        def put(self, item: int, block: bool = True, timeout: float | None = None) -> None:
            self.count += 1
            super().put(item, block, timeout)

    counting = Counting("mine")
    counting.put(1)
    assert (counting.get(), counting.count, counting.label, counting.maxsize) == (1, 1, "mine", 5)
    assert counting.stats().puts == 1


@pytest.mark.parametrize("cls", [queue.Queue, queue.LifoQueue])
def test_looking_inside_opens_a_queue(cls: type[queue.Queue[Any]]) -> None:
    made = cls(4)
    for number in range(3):
        made.put(number)
    made.get()
    with made.mutex:
        rest = list(made.queue)
        made.queue.clear()
        made.unfinished_tasks = 0
        made.all_tasks_done.notify_all()
        made.not_full.notify()
    assert rest == ([1, 2] if cls is queue.Queue else [0, 1])
    assert made.empty()
    made.join()
    made.put("new")
    assert made.get() == "new"
    made.maxsize = 1
    made.put(1)
    assert made.full()
    with pytest.raises(queue.Full):
        made.put_nowait(2)


def test_those_who_wait_go_on_when_a_queue_is_opened() -> None:
    empty: queue.Queue[int] = queue.Queue()
    getters = [started(lambda: empty.get(timeout=30)) for _ in range(2)]
    full: queue.Queue[int] = queue.Queue(1)
    full.put(0)
    putter, put = started(lambda: full.put(1))
    joiner, joined = started(full.join)
    until(waiting(empty))
    until(waiting(full))
    time.sleep(0.02)
    assert empty.not_empty and full.mutex
    time.sleep(0.02)
    assert putter.is_alive() and joiner.is_alive() and all(thread.is_alive() for thread, _ in getters)
    empty.put(1)
    empty.put(2)
    for thread, _ in getters:
        thread.join(30)
    assert sorted(results[0] for _, results in getters) == [1, 2]  # type: ignore[type-var]
    assert full.get() == 0
    putter.join(30)
    assert put == [None] and full.get() == 1
    full.task_done()
    full.task_done()
    joiner.join(30)
    assert joined == [None]


def test_a_wait_that_is_opened_keeps_its_time_limit() -> None:
    empty: queue.Queue[int] = queue.Queue()
    start = time.monotonic()
    thread, results = started(lambda: empty.get(timeout=0.3))
    until(waiting(empty))
    assert empty.mutex
    thread.join(30)
    assert results == [queue.Empty]
    assert 0.3 <= time.monotonic() - start < 10


@pytest.mark.parametrize("make", ALL)
def test_several_at_once(make: Callable[..., queue.Queue[Any]]) -> None:
    made = make(4)
    assert made.put_many(range(10), timeout=0.01) == 4
    assert sorted(made.get_many(3)) == ([0, 1, 2] if "Lifo" not in type(made).__name__ else [1, 2, 3])
    assert len(made.get_many(3)) == 1
    assert made.get_many(0) == []
    with pytest.raises(queue.Empty):
        made.get_many(3, timeout=0.01)
    thread, results = started(lambda: made.put_many(iter(range(9))))
    taken: list[int] = []
    while len(taken) < 9:
        taken += made.get_many(2, timeout=30)
    thread.join(30)
    assert (sorted(taken), results) == (list(range(9)), [9])
    made.shutdown()
    with pytest.raises(queue.ShutDown):
        made.put_many([1])
    with pytest.raises(queue.ShutDown):
        made.get_many(1)


@pytest.mark.parametrize("make", ALL)
def test_tasks_and_threads_in_one_line(make: Callable[..., queue.Queue[Any]]) -> None:
    async def main() -> None:
        made = make(3)
        seen: list[int] = []

        async def consume() -> None:
            while True:
                try:
                    seen.append(await made.get_async())
                except queue.ShutDown:
                    return
                made.task_done()

        def produce_in_thread() -> None:
            for number in range(100):
                made.put(number)

        async def produce() -> None:
            for number in range(100, 200):
                await made.put_async(number)

        consumers = [asyncio.create_task(consume()) for _ in range(3)]
        thread = threading.Thread(target=produce_in_thread)
        thread.start()
        await produce()
        await asyncio.to_thread(thread.join)
        await made.join_async()
        made.shutdown()
        await asyncio.gather(*consumers)
        assert sorted(seen) == list(range(200))
        with pytest.raises(queue.ShutDown):
            await made.put_async(1)

    run(main)


@pytest.mark.parametrize("make", [*ALL, queue.SimpleQueue])
def test_a_cancelled_get_loses_nothing(make: Callable[..., Any]) -> None:
    async def main() -> None:
        for _ in range(50):
            made = make()
            first = asyncio.create_task(made.get_async())
            second = asyncio.create_task(made.get_async())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            made.put("item")
            first.cancel()
            assert await second == "item"
            with pytest.raises(asyncio.CancelledError):
                await first
            with pytest.raises(queue.Empty):
                await made.get_async(timeout=0.001)

    run(main)


@pytest.mark.parametrize("make", ALL)
def test_a_cancelled_put_puts_nothing(make: Callable[..., queue.Queue[Any]]) -> None:
    async def main() -> None:
        made = make(1)
        made.put(1)
        task = asyncio.create_task(made.put_async(2))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(queue.Full):
            await made.put_async(3, timeout=0.01)
        assert made.get() == 1 and made.empty()

    run(main)


def test_a_task_that_waits_goes_on_when_a_queue_is_opened() -> None:
    async def main() -> None:
        made: queue.Queue[int] = queue.Queue(1)
        getter = asyncio.create_task(made.get_async())
        await asyncio.sleep(0.01)
        assert made.mutex
        await asyncio.sleep(0.01)
        made.put(1)
        assert await getter == 1
        other: queue.Queue[int] = queue.Queue(1)
        other.put(1)
        putter, joiner = asyncio.create_task(other.put_async(2)), asyncio.create_task(other.join_async())
        await asyncio.sleep(0.01)
        assert other.mutex
        await asyncio.sleep(0.01)
        assert not putter.done() and not joiner.done()
        assert await other.get_async() == 1
        await putter
        assert other.get() == 2
        other.task_done()
        other.task_done()
        await joiner
        cancelled = asyncio.create_task(other.get_async())
        await asyncio.sleep(0.01)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(main)


def test_priorities_may_compare_in_python_and_fail() -> None:
    made: queue.PriorityQueue[Any] = queue.PriorityQueue()

    class Nosy:
        """Uses the queue while it is compared."""

        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __lt__(self, other: "Nosy") -> bool:
            time.sleep(0)
            return self.rank < other.rank

    threads = [threading.Thread(target=made.put_many, args=([Nosy(rank) for rank in range(20)],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    ranks = [made.get().rank for _ in range(80)]
    assert ranks == sorted(ranks)
    made.put(1)
    with pytest.raises(TypeError):
        made.put("one")
    # The lock is free again.
    made.shutdown()


@pytest.mark.parametrize("make", [*ALL, queue.SimpleQueue])
def test_nothing_is_kept_after_get(make: Callable[..., Any]) -> None:
    class Thing:
        def __lt__(self, other: object) -> bool:
            return False

    made = make()
    thing = Thing()
    reference = weakref.ref(thing)
    made.put(thing)
    del thing
    assert reference() is not None
    made.get()
    assert reference() is None
    thread, results = started(made.get)
    time.sleep(0.01)
    thing = Thing()
    reference = weakref.ref(thing)
    made.put(thing)
    del thing
    thread.join(30)
    results.clear()
    assert reference() is None


@pytest.mark.parametrize("make", [queue.Queue, queue.LifoQueue, looked_into])
def test_an_item_may_use_the_queue_when_it_dies(make: Callable[..., queue.Queue[Any]]) -> None:
    made = make(1)
    died: list[int] = []

    class Thing:
        def __del__(self) -> None:
            died.append(made.qsize())

    made.put(Thing())
    with pytest.raises(queue.Full):
        made.put(Thing(), timeout=0.01)
    with pytest.raises(queue.Full):
        made.put_nowait(Thing())
    assert len(died) == 2
    made.shutdown(immediate=True)
    with pytest.raises(queue.ShutDown):
        made.put(Thing())
    assert len(died) == 4

    async def main() -> None:
        full = make(1)
        full.put(0)
        with pytest.raises(queue.Full):
            await full.put_async(Thing(), timeout=0.001)
        task = asyncio.create_task(full.put_async(Thing()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    gc.collect()
    assert len(died) == 6


@pytest.mark.parametrize("make", [*ALL, queue.SimpleQueue])
def test_a_queue_that_holds_itself_is_collected(make: Callable[..., Any]) -> None:
    made = make()
    made.put(made)
    reference = weakref.ref(made)
    del made
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("make", ALL)
def test_the_figures_of_a_queue(make: Callable[..., queue.Queue[Any]]) -> None:
    made = make(2)
    made.put(1)
    made.put(2)
    thread, _ = started(lambda: made.put(3))
    until(waiting(made))
    made.get()
    thread.join(30)
    stats = made.stats()
    assert (stats.size, stats.puts, stats.gets, stats.high_water) == (2, 3, 1, 2)
    assert 0 < stats.put_wait_secs < 30 and stats.get_wait_secs == 0
    assert "puts=3" in repr(stats)


def test_a_million_items_leave_memory_flat() -> None:
    made: queue.Queue[object] = queue.Queue(100)
    simple: queue.SimpleQueue[object] = queue.SimpleQueue()
    thing = object()

    def move() -> None:
        for _ in range(1000):
            made.put(thing)
            simple.put(made.get())
            simple.get()

    move()
    before, references = len(gc.get_objects()), sys.getrefcount(thing)
    for _ in range(300):
        move()
    assert len(gc.get_objects()) - before < 50
    assert sys.getrefcount(thing) == references


def test_a_batch_is_not_lost_when_a_hook_fails_in_the_middle() -> None:
    class Fails(queue.Queue[int]):
        def _get(self) -> int:
            if (item := super()._get()) == 2:
                self.queue.appendleft(item)
                raise LookupError
            return item

    made = Fails()
    made.put_many(range(4))
    assert made.get_many(4) == [0, 1]
    with pytest.raises(LookupError):
        made.get_many(4)


def test_a_batch_lets_other_threads_run() -> None:
    """An iterator without Python code gives the interpreter up nowhere by itself."""
    made: queue.Queue[bool] = queue.Queue()
    ran = tricorne.threading.Event()

    def run() -> None:
        time.sleep(0.005)
        ran.set()

    thread = threading.Thread(target=run)
    thread.start()
    most = 10_000_000
    assert made.put_many(itertools.islice(iter(ran.is_set, True), most)) < most
    thread.join()


@pytest.mark.parametrize("name", CLASSES)
def test_bases_may_both_make_the_queue(name: str) -> None:
    class Twice(getattr(queue, name)):  # type: ignore[misc]
        def __init__(self) -> None:
            for _ in range(2):
                getattr(queue, name).__init__(self, 3)

    made = Twice()
    made.put(1)
    assert (made.maxsize, made.get()) == (3, 1)
    with pytest.raises(RuntimeError, match="only once"):
        getattr(queue, name).__init__(made, 4)
