"""Our futures and pools in the hands of asyncio and of the standard library."""

import asyncio
import concurrent.futures
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tricorne.futures import CancelledError, Future, ThreadPoolExecutor, wait


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_asyncio_takes_pools_and_futures(pool: ThreadPoolExecutor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        first = await loop.run_in_executor(pool, abs, -1)
        loop.set_default_executor(pool)
        second = await loop.run_in_executor(None, abs, -2)
        third = await asyncio.to_thread(abs, -3)
        fourth = await asyncio.wrap_future(pool.submit(abs, -4))
        fifth = await pool.submit(abs, -5)
        rest = await asyncio.gather(*(pool.submit(abs, number) for number in range(50)))
        return [first, second, third, fourth, fifth, len(rest)]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5, 50]


def test_awaiting_raises_what_the_task_raised(pool: ThreadPoolExecutor) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.submit(divmod, 1, 0)
        done = pool.submit(divmod, 1, 0)
        wait([done])
        with pytest.raises(ZeroDivisionError):
            await done

    asyncio.run(main())


def test_cancelling_the_awaiting_task_cancels_the_future() -> None:
    async def main(future: Future[int]) -> None:
        async def waits() -> int:
            return await future

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The word reaches the future by a call of the loop.
        await asyncio.sleep(0)

    future: Future[int] = Future()
    asyncio.run(main(future))
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(0)


def test_run_coroutine_threadsafe_ends_in_our_wait() -> None:
    async def answer() -> int:
        return 42

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(answer(), loop)
    assert wait([future], timeout=30).done == {future}
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


def test_no_wake_up_of_the_standard_wait_is_lost(deep: bool) -> None:
    """Four threads end futures while the standard library's `wait` opens them and waits for them."""
    rounds = 250_000 if deep else 1_500
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    ready = [threading.Semaphore(0) for _ in range(4)]
    current: list[Future[int]] = []
    stop = False

    def ends(index: int) -> None:
        turn = 0
        while True:
            ready[index].acquire()
            if stop:
                return
            current[index].set_result(turn)
            turn += 1

    threads = [threading.Thread(target=ends, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + (900 if deep else 60)
        for turn in range(rounds):
            current[:] = [Future() for _ in range(4)]
            for semaphore in ready:
                semaphore.release()
            how = ("ALL_COMPLETED", "FIRST_COMPLETED")[turn % 2]
            done, not_done = concurrent.futures.wait(current, timeout=60, return_when=how)
            assert len(done) == 4 if how == "ALL_COMPLETED" else done, f"turn {turn}: {done} {not_done}"
            # The next turn makes new ones.
            assert not wait(current, timeout=60).not_done
            if time.monotonic() > end:
                break
    finally:
        stop = True
        for semaphore in ready:
            semaphore.release()
        for thread in threads:
            thread.join(30)
        sys.setswitchinterval(interval)


def test_fields_that_are_written_by_hand_under_the_condition() -> None:
    future: Future[int] = Future()

    def finish() -> None:
        with future._condition:
            future._state = "FINISHED"
            time.sleep(0.01)
            future._exception = OSError("by hand")
            future._condition.notify_all()

    thread = threading.Thread(target=finish)
    thread.start()
    assert isinstance(future.exception(30), OSError)
    thread.join(30)


def test_the_standard_condition_wakes_for_our_future() -> None:
    future: Future[int] = Future()
    with future._condition:
        thread = threading.Thread(target=future.set_result, args=(1,))
        thread.start()
        assert future._condition.wait(30)
        assert future._state == "FINISHED"
    thread.join(30)


def test_a_future_that_is_open_keeps_the_order_of_its_callbacks() -> None:
    future: Future[int] = Future()
    seen: list[int] = []
    future.add_done_callback(lambda _: seen.append(1))
    assert concurrent.futures.wait([future], timeout=0).not_done == {future}
    future.add_done_callback(lambda _: seen.append(2))
    future.set_result(1)
    assert seen == [1, 2]
    assert future.result() == 1
