"""Futures and maps where things meet: workers that wait, the collector, forks, and waiters that raise."""

import concurrent.futures
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tricorne
from tricorne import CancelToken
from tricorne.futures import Future, Retry, ThreadPoolExecutor, as_completed, wait
from tricorne.threading import Condition

HELD = 0.5
"""For so many seconds a worker would be kept by a task that it should not run itself."""


@pytest.mark.parametrize("how", ["wait", "result", "as_completed"])
def test_a_worker_that_waits_for_its_own_pool_keeps_to_its_time_limit(how: str) -> None:
    event = threading.Event()
    with ThreadPoolExecutor(2) as pool:

        def outer() -> float:
            futures = [pool.submit(event.wait, HELD) for _ in range(3)]
            begin = time.monotonic()
            if how == "wait":
                assert wait(futures, timeout=0).not_done
            elif how == "result":
                with pytest.raises(tricorne.TimeoutError):
                    futures[2].result(timeout=0.01)
            else:
                with pytest.raises(tricorne.TimeoutError):
                    list(as_completed(futures, timeout=0.01))
            elapsed = time.monotonic() - begin
            event.set()
            return elapsed

        assert pool.submit(outer).result(30) < HELD


def test_the_only_worker_of_a_pool_runs_what_it_waits_for() -> None:
    with ThreadPoolExecutor(1) as pool:

        def outer() -> tuple[bool, int]:
            looked_at = pool.submit(abs, -1)
            none_done = not wait([looked_at], timeout=0).done
            return none_done, pool.submit(abs, -2).result(timeout=30) + looked_at.result()

        assert pool.submit(outer).result(30) == (True, 3)


class Owner:
    """Something that keeps what refers back to it."""

    kept: object


def keeps_a_map(owner: Any) -> None:
    pool = ThreadPoolExecutor(1)
    owner.kept = results = pool.map(lambda item: (owner, item)[1], itertools.count(), buffersize=2)
    next(results)


def keeps_as_completed(owner: Any) -> None:
    future: Any = Future()
    future.owner = owner
    owner.kept = as_completed([future])


def keeps_a_callback(owner: Any) -> None:
    owner.kept = CancelToken().on_cancel(lambda: owner)


def keeps_an_awaitable(owner: Any) -> None:
    owner.kept = Condition().wait_for_async(lambda: owner)


@pytest.mark.parametrize("keep", [keeps_a_map, keeps_as_completed, keeps_a_callback, keeps_an_awaitable])
def test_the_collector_finds_cycles(keep: Callable[[Any], None]) -> None:
    owner = Owner()
    keep(owner)
    watched = weakref.ref(owner)
    del owner
    end = time.monotonic() + 30
    # A task that is still being run keeps its function.
    while watched() is not None and time.monotonic() < end:
        gc.collect()
    assert watched() is None


def test_the_collector_leaves_what_is_in_use_alone() -> None:
    called: list[object] = []
    with ThreadPoolExecutor(1) as pool:
        results = pool.map(lambda item: item, iter(range(100)), buffersize=2)
        assert next(results) == 0
        futures = [pool.submit(abs, number) for number in range(5)]
        completed = as_completed(futures)
        token = CancelToken()
        guard = token.on_cancel(lambda: called.append(1))
        gc.collect()
        assert list(results) == list(range(1, 100))
        assert sorted(future.result() for future in completed) == list(range(5))
        token.cancel()
        assert called == [1]
        guard.remove()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("look", [lambda futures: wait(futures, 20), lambda futures: list(as_completed(futures, 20))])
def test_who_waits_for_several_futures_of_the_parent_learns_of_it(look: Callable[[list[Future[Any]]], object]) -> None:
    event = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done, running = pool.submit(abs, -1), pool.submit(event.wait, 60)
        done.result()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                look([done, running])
            except tricorne.BrokenExecutor:
                os._exit(0)
            finally:
                os._exit(1)
        event.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_waiter_that_raises_keeps_nobody_else_from_learning() -> None:
    class Waiter:
        def add_result(self, future: concurrent.futures.Future[int]) -> None:
            raise ValueError("from a waiter")

    future: Any = Future()
    future._waiters.append(Waiter())
    called: list[object] = []
    future.add_done_callback(called.append)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(future.result(30)))
    thread.start()
    other = threading.Thread(target=lambda: results.append(len(wait([future], 30).done)))
    other.start()
    with pytest.raises(ValueError, match="from a waiter"):
        future.set_result(5)
    thread.join()
    other.join()
    assert called == [future]
    assert sorted(results) == [1, 5]


def test_a_result_that_was_written_by_hand_is_let_go_outside_the_lock() -> None:
    class Looks:
        def __del__(self) -> None:
            seen.append(future.done())

    seen: list[bool] = []
    future: Any = Future()
    future._result = Looks()
    future.set_result(1)
    assert (seen, future.result()) == ([True], 1)


@pytest.mark.parametrize("how", ["wait", "as_completed", "map"])
def test_the_only_worker_runs_the_attempts_of_what_it_waits_for(how: str) -> None:
    begun = itertools.count()

    def fails_first(item: int) -> int:
        if next(begun) == 0:
            raise ValueError(item)
        return item

    with ThreadPoolExecutor(1) as pool:
        view = pool.with_options(retry=1)

        def outer() -> list[int]:
            if how == "map":
                return list(view.map(fails_first, range(3), ordered=False))
            futures = [view.submit(fails_first, item) for item in range(3)]
            completed = wait(futures).done if how == "wait" else as_completed(futures)
            return [future.result() for future in completed]

        assert sorted(pool.submit(outer).result(30)) == [0, 1, 2]


def test_the_only_worker_runs_attempts_that_come_later() -> None:
    attempts = itertools.count(1)

    def fails_twice() -> int:
        if (attempt := next(attempts)) < 3:
            raise ValueError(attempt)
        return attempt

    with ThreadPoolExecutor(1) as pool:
        view = pool.with_options(retry=Retry(attempts=3, base_secs=0.01))
        assert pool.submit(lambda: view.submit(fails_twice).result()).result(30) == 3


@pytest.mark.parametrize("how", ["wait", "as_completed", "map"])
def test_the_only_worker_runs_attempts_that_come_later_of_several_futures(how: str) -> None:
    begun: dict[int, int] = {}

    def fails_twice(item: int) -> int:
        begun[item] = begun.get(item, 0) + 1
        if begun[item] < 3:
            raise ValueError(item)
        return item

    with ThreadPoolExecutor(1) as pool:
        view = pool.with_options(retry=Retry(attempts=3, base_secs=0.01))

        def outer() -> list[int]:
            if how == "map":
                return list(view.map(fails_twice, range(3), ordered=False))
            futures = [view.submit(fails_twice, item) for item in range(3)]
            completed = wait(futures).done if how == "wait" else as_completed(futures)
            return [future.result() for future in completed]

        assert sorted(pool.submit(outer).result(30)) == [0, 1, 2]
    assert begun == {0: 3, 1: 3, 2: 3}


def test_the_end_of_the_program_cuts_the_pause_before_an_attempt_short() -> None:
    program = """
        import threading, time
        from tricorne.futures import Retry, ThreadPoolExecutor

        attempts = []
        def fails_first():
            attempts.append(1)
            if len(attempts) == 1:
                raise ValueError
            return len(attempts)

        pool, other = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        future = pool.with_options(retry=Retry(attempts=2, base_secs=1e6, max_delay_secs=1e6)).submit(fails_first)
        while not attempts or pool.stats().running:
            time.sleep(0.001)
        other.submit(lambda: print(future.result(), flush=True))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_a_callback_that_blocks_delays_no_other_limit() -> None:
    """What is done at the limit of a task runs in a thread of the timer."""
    with ThreadPoolExecutor(2) as pool:
        release, blocked = threading.Event(), threading.Event()
        limited = pool.with_options(timeout=0.02)
        first = limited.submit(release.wait, 60)

        def block(_: object) -> None:
            blocked.set()
            release.wait(60)

        first.add_done_callback(block)
        assert blocked.wait(30)
        try:
            with pytest.raises(tricorne.TimeoutError, match="has run for"):
                limited.submit(release.wait, 60).result(30)
        finally:
            release.set()


def test_tasks_of_workers_that_are_still_being_initialized_have_not_begun() -> None:
    release, initializing = threading.Event(), threading.Semaphore(0)

    def initialize() -> None:
        initializing.release()
        release.wait(60)

    pool = ThreadPoolExecutor(2, initializer=initialize)
    futures = [pool.submit(abs, -1) for _ in range(4)]
    assert all(initializing.acquire(timeout=30) for _ in range(2))
    pool.shutdown(wait=False, cancel_futures=True)
    release.set()
    pool.shutdown()
    assert [future.cancelled() for future in futures] == [True] * 4


def test_the_rest_of_a_map_that_was_iterated_in_part() -> None:
    """As in the standard library: kept, all its results can be had after `shutdown`; dropped, it is cancelled."""
    with ThreadPoolExecutor(1) as pool:
        kept = pool.map(abs, range(100))
        assert next(kept) == 0
    assert list(kept) == list(range(1, 100))

    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(1) as pool:
        dropped = pool.map(abs, items())
        assert next(dropped) == 0
        del dropped
    assert len(taken) < 100

    with ThreadPoolExecutor(1) as pool:
        endless = pool.map(abs, itertools.count(), buffersize=2)
        assert next(endless) == 0
    assert next(endless) == 1
