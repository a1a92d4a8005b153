"""A program that uses the whole of the package, for the type checkers: each type is what the stubs promise. It also runs."""

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import assert_type

from tricorne import Caller, CallerStats, CancelGuard, CancelToken, Graceful, graceful
from tricorne.futures import (
    ALL_COMPLETED,
    AsyncExecutor,
    AsyncFuture,
    DoneAndNotDoneFutures,
    Executor,
    ExecutorWithOptions,
    Future,
    Retry,
    ThreadPoolExecutor,
    ThreadPoolStats,
    as_completed,
    wait,
)
from tricorne.futures.thread import BrokenThreadPool
from tricorne.queue import Empty, Full, LifoQueue, PriorityQueue, Queue, QueueStats, ShutDown, SimpleQueue
from tricorne.threading import Barrier, BoundedSemaphore, BrokenBarrierError, Condition, Event, Lock, RLock, Semaphore, WaitStats


def text(number: int, *, mark: str = "") -> str:
    return f"{number}{mark}"


async def text_later(number: int) -> str:
    await asyncio.sleep(0)
    return text(number)


def take(future: Future[str]) -> None:
    assert_type(future.result(), str)


def test_primitives() -> None:
    for lock in (Lock(), RLock()):
        with lock:
            assert_type(lock.locked(), bool)
        assert_type(lock.acquire(blocking=True, timeout=1.0), bool)
        lock.release()
        assert_type(lock.stats(), WaitStats)
    condition = Condition(RLock())
    with condition:
        assert_type(condition.wait(timeout=0), bool)
        assert_type(condition.wait_for(lambda: 3, timeout=0), int)
        condition.notify_all()
    for semaphore in (Semaphore(2), BoundedSemaphore(2)):
        with semaphore:
            assert_type(semaphore.acquire(timeout=0.1), bool)
            semaphore.release()
    event = Event()
    event.set()
    assert_type(event.wait(), bool)
    barrier = Barrier(1, action=event.clear)
    assert_type(barrier.wait(), int)
    barrier.abort()
    try:
        barrier.wait()
    except BrokenBarrierError:
        assert_type(barrier.broken, bool)
    assert_type(event.stats().wait_secs, float)


def test_primitives_in_asyncio() -> None:
    async def main() -> None:
        lock, condition, semaphore, event = Lock(), Condition(), Semaphore(), Event()
        async with lock, semaphore:
            assert_type(await semaphore.acquire_async(timeout=0), bool)
        async with condition:
            assert_type(await condition.wait_async(timeout=0), bool)
            assert_type(await condition.wait_for_async(lambda: "x"), str)
        assert_type(await lock.acquire_async(), bool)
        assert_type(await event.wait_async(0), bool)
        assert_type(await Barrier(1).wait_async(), int)
        assert_type(await CancelToken().wait_async(0), bool)

    asyncio.run(main())


def test_queues() -> None:
    queues: list[Queue[int]] = [Queue(4), LifoQueue[int](4), PriorityQueue[int](4)]
    for queue in queues:
        queue.put(1, timeout=1.0)
        assert_type(queue.put_many([2, 3]), int)
        assert_type(queue.get(), int)
        assert_type(queue.get_many(2), list[int])
        assert_type(queue.stats(), QueueStats)
        try:
            queue.get_nowait()
        except (Empty, Full):
            queue.shutdown()
        try:
            queue.put(1)
        except ShutDown:
            assert_type(queue.is_shutdown, bool)
    simple: SimpleQueue[str] = SimpleQueue()
    simple.put("x")
    assert_type(simple.get(), str)

    async def main() -> None:
        queue: Queue[str] = Queue()
        await queue.put_async("x")
        assert_type(await queue.get_async(timeout=1.0), str)
        queue.task_done()
        await queue.join_async()

    asyncio.run(main())


def test_futures() -> None:
    with ThreadPoolExecutor(2, thread_name_prefix="typed", initializer=print, initargs=("",)) as pool:
        future = pool.submit(text, 1, mark="!")
        assert_type(future, Future[str])
        assert_type(future.result(timeout=30), str)
        assert_type(future.exception(), BaseException | None)
        future.add_done_callback(take)
        assert_type(pool.map(text, range(3), ordered=False, buffersize=2, return_exceptions=True), Iterator[str])
        assert_type(wait([future], timeout=1.0, return_when=ALL_COMPLETED), DoneAndNotDoneFutures[Future[str]])
        done, not_done = wait({future})
        assert_type(done, set[Future[str]])
        assert_type(not_done, set[Future[str]])
        for ended in as_completed([future]):
            assert_type(ended.result(), str)
        assert_type(pool.stats(), ThreadPoolStats)
        view = pool.with_options(timeout=30.0, retry=Retry(attempts=2, on=(OSError, BrokenThreadPool)))
        assert_type(view, ExecutorWithOptions)
        assert_type(view.submit(text, 2).result(), str)
        executor: Executor = view
        standard: concurrent.futures.Executor = pool
        assert_type(executor.submit(text, 3), Future[str])
        assert_type(standard.submit(text, 4).result(), str)

        async def main() -> None:
            assert_type(await pool.submit(text, 5), str)

        asyncio.run(main())
    with AsyncExecutor(max_tasks=2) as loop:
        assert_type(loop.submit(text_later, 1), AsyncFuture[str])
        assert_type(loop.submit(text_later, 1).result(), str)
        assert_type(list(loop.map(text_later, range(3))), list[str])


def test_the_rest() -> None:
    with Caller(text) as caller:
        assert_type(caller.call(1, timeout=30), str)
        assert_type(caller.submit(2), Future[str])
        assert_type(caller.stats(), CallerStats)
        assert_type(asyncio.run(caller.acall(3)), str)

    def texts(numbers: list[int]) -> list[str]:
        return [text(number) for number in numbers]

    with Caller(texts, max_batch=4, max_wait=0.001) as batches:
        assert_type(batches.call(1), str)
    with graceful(ThreadPoolExecutor(1), timeout=5.0) as stop:
        assert_type(stop, Graceful)
        assert_type(stop.is_set(), bool)
    assert_type(stop.exit_code, int)
    token = CancelToken(timeout=30)
    assert_type(token.child(), CancelToken)
    assert_type(token.on_cancel(lambda: None), CancelGuard)
    assert_type(token.remaining_secs(), float | None)
    token.cancel()
    assert_type(token.wait(), bool)
