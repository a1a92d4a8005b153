"""Futures and maps where things meet: workers that wait, the collector, forks, and waiters that raise."""

import concurrent.futures
import gc
import itertools
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import tricorne
from tricorne import CancelToken
from tricorne.futures import Future, Retry, ThreadPoolExecutor, as_completed, wait

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


@pytest.mark.parametrize("keep", [keeps_a_map, keeps_as_completed, keeps_a_callback])
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
