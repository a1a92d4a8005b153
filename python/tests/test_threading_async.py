"""The async forms: tasks and threads in one line, cancelled tasks lose nothing, nothing polls."""

import asyncio
import threading as standard
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tricorne import queue, threading


def run(main: Callable[[], Awaitable[object]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), 60)

    asyncio.run(bounded())


async def settle(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock, threading.Semaphore, threading.Condition])
def test_async_with_excludes_tasks_and_threads(make: Callable[[], Any]) -> None:
    guard = make()
    inside = highest = total = 0

    def work() -> None:
        nonlocal inside, highest, total
        inside += 1
        highest = max(highest, inside)
        total += 1

    def in_thread() -> None:
        nonlocal inside
        for _ in range(50):
            with guard:
                work()
                time.sleep(0)
                inside -= 1

    async def in_task() -> None:
        nonlocal inside
        for _ in range(50):
            async with guard:
                work()
                await asyncio.sleep(0)
                inside -= 1

    async def main() -> None:
        threads = [standard.Thread(target=in_thread) for _ in range(2)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(in_task() for _ in range(4)))
        for thread in threads:
            await asyncio.to_thread(thread.join)

    run(main)
    assert (highest, total, inside) == (1, 300, 0)


def test_a_thread_wakes_a_task() -> None:
    async def main() -> None:
        event, lock = threading.Event(), threading.Lock()
        lock.acquire()
        waits = asyncio.gather(event.wait_async(), lock.acquire_async())
        await settle(lambda: event.stats().waiting == 1 and lock.stats().waiting == 1)

        def wake() -> None:
            event.set()
            lock.release()

        standard.Thread(target=wake).start()
        assert list(await waits) == [True, True]

    run(main)


def test_time_limits() -> None:
    async def main() -> None:
        lock, event, semaphore, condition = threading.Lock(), threading.Event(), threading.Semaphore(0), threading.Condition()
        lock.acquire()
        assert await lock.acquire_async(timeout=0.01) is False
        assert await lock.acquire_async(timeout=0) is False
        assert await event.wait_async(0.01) is False
        assert await semaphore.acquire_async(0.01) is False
        async with condition:
            assert await condition.wait_async(0.01) is False
            assert await condition.wait_for_async(lambda: [], 0.01) == []
            assert condition.locked()
        assert not condition.locked()
        with pytest.raises(threading.BrokenBarrierError):
            await threading.Barrier(2).wait_async(0.01)
        assert (lock.stats().waiting, event.stats().waiting, semaphore.stats().waiting) == (0, 0, 0)

    run(main)


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "Event"])
def test_a_cancelled_task_leaves_the_line(name: str) -> None:
    async def main() -> None:
        primitive = getattr(threading, name)()
        if name != "Event":
            primitive.acquire()
        wait = primitive.wait_async if name == "Event" else primitive.acquire_async
        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await settle(lambda: primitive.stats().waiting == 2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert primitive.stats().waiting == 1
        primitive.set() if name == "Event" else primitive.release()
        assert await second is True

    run(main)


def test_what_was_granted_to_a_cancelled_task_goes_to_the_next() -> None:
    async def main() -> None:
        for _ in range(200):
            semaphore = threading.Semaphore(0)
            first = asyncio.create_task(semaphore.acquire_async())
            second = asyncio.create_task(semaphore.acquire_async())
            await settle(lambda: semaphore.stats().waiting == 2)
            semaphore.release()
            # Granted, but not polled yet.
            first.cancel()
            assert await second is True
            with pytest.raises(asyncio.CancelledError):
                await first

    run(main)


def test_tasks_of_one_thread_exclude_each_other_by_an_rlock() -> None:
    async def main() -> None:
        lock = threading.RLock()
        order: list[str] = []

        async def nested(name: str) -> None:
            async with lock:
                order.append(name)
                await asyncio.sleep(0.005)
                async with lock:
                    # The plain forms act for the task that holds it.
                    with lock:
                        order.append(name)
                        assert lock._recursion_count() == 3
                order.append(name)

        await asyncio.gather(nested("a"), nested("b"))
        assert "".join(order) in ("aaabbb", "bbbaaa")
        assert not lock.locked()
        with pytest.raises(RuntimeError):
            lock.release()

    run(main)


def test_a_condition_between_tasks_and_threads() -> None:
    async def main() -> None:
        condition = threading.Condition()
        items: list[int] = []

        async def take() -> int:
            async with condition:
                await condition.wait_for_async(lambda: items)
                return items.pop(0)

        tasks = [asyncio.create_task(take()) for _ in range(3)]

        def give() -> None:
            for number in range(3):
                with condition:
                    items.append(number)
                    condition.notify()

        thread = standard.Thread(target=give)
        thread.start()
        assert sorted(await asyncio.gather(*tasks)) == [0, 1, 2]
        await asyncio.to_thread(thread.join)
        with pytest.raises(RuntimeError):
            await condition.wait_async()
        with pytest.raises(TypeError):
            await threading.Condition(standard.Lock()).acquire_async()

    run(main)


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock])
def test_a_task_cancelled_in_a_condition_has_the_lock_again(make_lock: Callable[[], Any]) -> None:
    async def main() -> None:
        condition = threading.Condition(make_lock())
        held: list[bool] = []

        async def wait() -> None:
            async with condition:
                try:
                    await condition.wait_async()
                finally:
                    held.append(condition.locked())

        task = asyncio.create_task(wait())
        await settle(lambda: condition.stats().waiting == 1)
        # The lock is held by a thread while the task is cancelled: it has to wait for it, and is cancelled once more.
        condition.acquire()
        task.cancel()
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        condition.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held == [True]
        assert not condition.locked()

    run(main)


def test_a_notification_to_a_cancelled_task_goes_to_the_next() -> None:
    async def main() -> None:
        condition = threading.Condition()

        async def wait() -> None:
            async with condition:
                await condition.wait_async()

        for _ in range(50):
            first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
            await settle(lambda: condition.stats().waiting == 2)
            async with condition:
                condition.notify()
            first.cancel()
            await second
            with pytest.raises(asyncio.CancelledError):
                await first

    run(main)


def test_a_barrier_of_tasks_and_a_thread() -> None:
    async def main() -> None:
        actions: list[int] = []
        barrier = threading.Barrier(3, lambda: actions.append(1))
        indexes: list[int] = []
        thread = standard.Thread(target=lambda: indexes.append(barrier.wait(30)))
        thread.start()
        indexes += await asyncio.gather(barrier.wait_async(), barrier.wait_async())
        await asyncio.to_thread(thread.join)
        assert sorted(indexes) == [0, 1, 2]
        assert actions == [1]

    run(main)


def test_a_waiting_loop_does_nothing() -> None:
    async def main() -> None:
        event = threading.Event()
        task = asyncio.create_task(event.wait_async())
        await settle(lambda: event.stats().waiting == 1)
        before = time.thread_time()
        await asyncio.sleep(0.3)
        assert time.thread_time() - before < 0.1
        event.set()
        await task

    run(main)


def test_a_loop_that_was_closed_is_nobodys_problem() -> None:
    event = threading.Event()

    async def main() -> None:
        task = asyncio.ensure_future(event.wait_async())
        await settle(lambda: event.stats().waiting == 1)
        # Hidden from `asyncio.run`, which would cancel it.
        asyncio.tasks._unregister_task(task)
        pending.append(task)

    pending: list[asyncio.Future[bool]] = []
    asyncio.run(main())
    event.set()
    pending[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    pending.clear()


def test_an_awaitable_is_good_for_one_await() -> None:
    async def main() -> None:
        waiting = threading.Event().wait_async(0)
        assert await waiting is False
        with pytest.raises(RuntimeError):
            await waiting
        threading.Lock().acquire_async().close()

    run(main)


def test_a_closed_loop_keeps_nothing_of_what_its_tasks_waited_for() -> None:
    """More tasks than a thread could hand on from one inside the other."""
    lock, semaphore, fifo = threading.Lock(), threading.Semaphore(0), queue.Queue[str]()
    lock.acquire()

    async def leave_waiting() -> list[asyncio.Future[Any]]:
        operations: list[Any] = [lock.acquire_async() for _ in range(20_000)]
        operations += [semaphore.acquire_async(), fifo.get_async()]
        tasks = [asyncio.ensure_future(operation) for operation in operations]
        await asyncio.sleep(0.01)
        return tasks

    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(leave_waiting())
    loop.close()
    lock.release()
    semaphore.release()
    fifo.put("item")
    assert lock.acquire(timeout=30)
    assert semaphore.acquire(timeout=30)
    assert fifo.get(timeout=30) == "item"
    for task in tasks:
        # Nobody is to hear that they never ended.
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_wake_while_the_loop_makes_the_future() -> None:
    """As by a finalizer that runs in that moment."""
    lock = threading.Lock()
    lock.acquire()

    class Loop(asyncio.SelectorEventLoop):
        wakes = False

        def create_future(self) -> asyncio.Future[Any]:
            if self.wakes:
                self.wakes = False
                lock.release()
            return super().create_future()

    loop = Loop()

    async def main() -> bool:
        loop.wakes = True
        return await lock.acquire_async()

    assert loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("way_out", ["async with condition", "async with lock", "release"])
def test_a_coroutine_closed_in_a_condition_leaves_the_lock_of_others_alone(make_lock: Callable[[], Any], way_out: str) -> None:
    lock = make_lock()
    condition = threading.Condition(lock)

    async def wait() -> None:
        if way_out == "release":
            await condition.acquire_async()
            try:
                await condition.wait_async()
            finally:
                lock.release()
        else:
            async with condition if way_out == "async with condition" else lock:
                await condition.wait_async()

    async def main() -> None:
        waiting = wait()
        waiting.send(None)
        assert not lock.locked()
        taken, release = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                taken.set()
                release.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        assert taken.wait(30)
        waiting.close()
        assert lock.locked()
        release.set()
        holder.join()
        assert not lock.locked()
        # Nobody holds it: it is taken back, and released on the way out.
        waiting = wait()
        waiting.send(None)
        waiting.close()
        assert not lock.locked()
        # Nothing is left behind: the next way out releases.
        async with condition:
            pass
        assert not lock.locked()

    asyncio.run(main())
