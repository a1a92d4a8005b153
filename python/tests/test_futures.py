"""What `tricorne.futures` adds to the standard library's, and where implementations commonly go wrong."""

import concurrent.futures
import contextlib
import contextvars
import copy
import functools
import gc
import itertools
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tricorne
from tricorne.futures import (
    AsyncExecutor,
    CancelledError,
    Executor,
    ExecutorWithOptions,
    Future,
    Retry,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from tricorne.futures.thread import BrokenThreadPool


def ignore(*_: object) -> None:
    pass


class Thing:
    """Something that a weak reference can watch."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def hold(pool: ThreadPoolExecutor, workers: int) -> threading.Event:
    """Keeps the workers busy until the event is set."""
    event = threading.Event()
    started = threading.Barrier(workers + 1)

    def task() -> None:
        started.wait(30)
        event.wait(30)

    for _ in range(workers):
        pool.submit(task)
    started.wait(30)
    return event


# Futures


def test_a_future_is_one_of_the_standard_library() -> None:
    assert isinstance(Future(), concurrent.futures.Future)
    assert issubclass(ThreadPoolExecutor, concurrent.futures.ThreadPoolExecutor)
    assert issubclass(ThreadPoolExecutor, Executor)
    assert not hasattr(ThreadPoolExecutor(1), "_work_queue")
    assert Future[int] is not None


def test_errors_are_ours_and_the_standard_librarys(pool: ThreadPoolExecutor) -> None:
    future: Future[int] = Future()
    with pytest.raises(TimeoutError) as timeout:
        future.result(0)
    assert isinstance(timeout.value, tricorne.TricorneError)
    future.cancel()
    with pytest.raises(CancelledError) as cancelled:
        future.result()
    assert isinstance(cancelled.value, tricorne.TricorneError)
    assert isinstance(cancelled.value, concurrent.futures.CancelledError)
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_result(1)


def test_a_traceback_leads_to_the_task(pool: ThreadPoolExecutor) -> None:
    def fails() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here") as caught:
        pool.submit(fails).result()
    assert [entry.name for entry in caught.traceback][-1] == "fails"


def test_subclasses_keep_their_own_arguments_and_fields() -> None:
    class Named(Future[int]):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    future = Named("a")
    future.set_result(1)
    assert (future.name, future.result()) == ("a", 1)
    with pytest.raises(TypeError):
        Future(1)  # type: ignore[call-arg]


def test_a_copy_has_the_state_and_a_pickle_is_refused() -> None:
    future: Future[list[int]] = Future()
    pending = copy.copy(future)
    future.set_result([1])
    assert copy.copy(future).result() is future.result()
    assert not pending.done()
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(future)
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(future)


def test_callbacks_run_in_order_and_may_add_more() -> None:
    future: Future[int] = Future()
    seen: list[str] = []

    def first(future: concurrent.futures.Future[int]) -> None:
        seen.append("first")
        future.add_done_callback(lambda _: seen.append("added"))

    future.add_done_callback(first)
    future.add_done_callback(lambda _: seen.append("second"))
    future.set_result(1)
    assert seen == ["first", "added", "second"]


def test_set_exception_none_is_a_result_as_in_the_standard_library() -> None:
    future: Future[int] = Future()
    future.set_exception(None)
    assert future.result() is None
    assert future.exception() is None


@pytest.mark.parametrize("timeout", [float("nan"), "1", object()])
def test_a_timeout_is_a_number(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Future().result(timeout)


def test_many_threads_wait_for_one_future() -> None:
    future: Future[int] = Future()
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(future.result(30))) for _ in range(16)]
    for thread in threads:
        thread.start()
    future.set_result(7)
    for thread in threads:
        thread.join(30)
    assert seen == [7] * 16


# The pool


def test_a_task_gets_every_argument(pool: ThreadPoolExecutor) -> None:
    def take(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
        return args, kwargs

    assert pool.submit(take).result() == ((), {})
    assert pool.submit(take, 1).result() == ((1,), {})
    assert pool.submit(take, 1, 2, fn=3, self=4).result() == ((1, 2), {"fn": 3, "self": 4})


def test_context_variables_reach_the_task_and_stay_apart(pool: ThreadPoolExecutor) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    assert [pool.submit(change).result() for _ in range(6)] == ["unset"] * 6
    variable.set("here")
    assert [pool.submit(change).result() for _ in range(6)] == ["here"] * 6
    assert list(pool.map(lambda _: change(), range(6))) == ["here"] * 6
    assert variable.get() == "here"


def test_a_worker_runs_the_task_it_waits_for() -> None:
    with ThreadPoolExecutor(1) as pool:

        def nested(depth: int) -> int:
            return pool.submit(nested, depth - 1).result() + 1 if depth else 0

        assert pool.submit(nested, 40).result(30) == 40
        assert pool.submit(lambda: sum(pool.map(abs, range(100)))).result(30) == 4950
        assert pool.submit(lambda: sorted(pool.map(abs, range(9), ordered=False))).result(30) == list(range(9))
        assert pool.submit(lambda: len(wait([pool.submit(abs, 1) for _ in range(5)]).done)).result(30) == 5
        assert pool.submit(lambda: len(list(as_completed([pool.submit(abs, 1) for _ in range(5)])))).result(30) == 5
        assert pool.submit(lambda: pool.with_options(retry=1).submit(abs, -3).result()).result(30) == 3


def test_a_worker_may_shut_its_own_pool_down() -> None:
    pool = ThreadPoolExecutor(2)
    done: list[int] = []

    def shut_down() -> None:
        for number in range(10):
            pool.submit(done.append, number)
        pool.shutdown()

    pool.submit(shut_down).result(30)
    assert sorted(done) == list(range(10))


def test_idle_workers_come_first_and_threads_have_names() -> None:
    with ThreadPoolExecutor(8, thread_name_prefix="reader") as pool:
        for _ in range(20):
            assert pool.submit(lambda: threading.current_thread().name).result() == "reader_0"
        assert pool.stats().workers == 1


def test_trace_and_profile_functions_reach_the_workers() -> None:
    seen: set[str] = set()

    def profile(frame: Any, event: str, argument: object) -> None:
        seen.add(frame.f_code.co_name)

    def profiled_task() -> None:
        pass

    threading.setprofile(profile)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(profiled_task).result()
    finally:
        threading.setprofile(None)
    assert "profiled_task" in seen


def test_a_failing_initializer_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError("no")

    pool = ThreadPoolExecutor(2, initializer=fails)
    with pytest.raises(BrokenThreadPool):
        for _ in range(1000):
            pool.submit(int).result(30)
    with pytest.raises(BrokenThreadPool) as broken:
        pool.submit(int)
    assert isinstance(broken.value, tricorne.TricorneError)
    assert "Exception in initializer" in caplog.text
    pool.shutdown()


def test_an_initializer_runs_once_in_each_worker() -> None:
    local = threading.local()
    calls: list[int] = []

    def prepare(value: str) -> None:
        local.value = value
        calls.append(threading.get_ident())

    with ThreadPoolExecutor(3, initializer=prepare, initargs=("ready",)) as pool:
        assert set(pool.map(lambda _: local.value, range(50))) == {"ready"}
    assert 1 <= len(calls) <= 3
    assert len(set(calls)) == len(calls)


def test_shutdown_runs_or_cancels_what_waits() -> None:
    pool = ThreadPoolExecutor(1)
    event = hold(pool, 1)
    waiting = [pool.submit(abs, number) for number in range(5)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    # The standard library never says so to `wait`, which then waits for ever.
    assert len(wait(waiting, timeout=0).done) == 5
    event.set()
    pool.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(int)

    pool = ThreadPoolExecutor(1)
    event = hold(pool, 1)
    waiting = [pool.submit(abs, -number) for number in range(5)]
    pool.shutdown(wait=False)
    event.set()
    assert [future.result(30) for future in waiting] == list(range(5))


def test_a_dropped_pool_runs_what_was_submitted() -> None:
    futures = [ThreadPoolExecutor(1).submit(abs, -number) for number in range(20)]
    assert [future.result(30) for future in futures] == list(range(20))


def test_cancelling_a_waiting_task_lets_go_of_it_at_once(pool: ThreadPoolExecutor) -> None:
    event = hold(pool, 2)
    thing = Thing()
    watch = weakref.ref(thing)
    future = pool.submit(lambda thing: None, thing)
    del thing
    assert watch() is not None
    assert future.cancel()
    assert watch() is None
    assert wait([future], timeout=0).done == {future}
    event.set()


def test_a_callback_that_raises_anything_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    def leave(future: object) -> None:
        raise SystemExit

    with ThreadPoolExecutor(1) as pool:
        event = hold(pool, 1)
        pool.submit(int).add_done_callback(leave)
        event.set()
        assert pool.submit(abs, -1).result(30) == 1
    assert "Exception in worker" in caplog.text


def test_exceptions_that_are_not_errors_are_results(pool: ThreadPoolExecutor) -> None:
    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):

        def leave(kind: type[BaseException] = kind) -> None:
            raise kind

        assert isinstance(pool.submit(leave).exception(30), kind)


def test_stats_count() -> None:
    with ThreadPoolExecutor(3) as pool:
        event = hold(pool, 3)
        waiting = [pool.submit(int) for _ in range(4)]
        stats = pool.stats()
        assert (stats.max_workers, stats.workers, stats.running, stats.queued, stats.submitted) == (3, 3, 3, 4, 7)
        event.set()
        wait(waiting)
    stats = pool.stats()
    assert (stats.workers, stats.running, stats.queued, stats.finished) == (0, 0, 0, 7)


def test_default_workers_follow_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity here")
    from tricorne.futures.thread import default_workers

    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert default_workers() == 5
    finally:
        os.sched_setaffinity(0, before)


def test_tasks_that_never_enter_the_interpreter_leave_the_main_thread_alive() -> None:
    """Calls of `len` hold the interpreter for longer than a switch interval, but never longer than that at a time."""
    with ThreadPoolExecutor(1) as pool:
        # A busy machine may not run the main thread for a while: then there is more to do.
        for _ in range(20):
            event = hold(pool, 1)
            futures = [pool.submit(len, "") for _ in range(300_000)]
            turns = 0
            event.set()
            while not futures[-1].done():
                turns += 1
                time.sleep(0)
            if turns >= 3:
                break
    # The main thread was let in again and again; held back to the end it would have had one or two turns each time.
    assert turns >= 3


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pool_has_workers(workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        ThreadPoolExecutor(workers)


def test_a_pool_whose_init_was_not_called_says_so() -> None:
    class Forgetful(ThreadPoolExecutor):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful().submit(int)


# map


class Counted:
    """An input that counts how far it was advanced, and by which threads."""

    def __init__(self, items: int | None = None) -> None:
        self.advanced = 0
        self.threads: set[int] = set()
        self.items = items

    def __iter__(self) -> "Counted":
        return self

    def __next__(self) -> int:
        if self.advanced == self.items:
            raise StopIteration
        self.threads.add(threading.get_ident())
        self.advanced += 1
        return self.advanced - 1


def test_map_is_lazy_and_bounded(pool: ThreadPoolExecutor) -> None:
    counted = Counted()
    results = pool.map(lambda item: item, counted)
    assert counted.advanced == 8
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    assert counted.advanced <= 11
    # A slow consumer holds the input back.
    for taken in range(4, 60):
        next(results)
        time.sleep(0.0005)
    assert counted.advanced <= taken + 64
    assert counted.threads == {threading.get_ident()}


@pytest.mark.parametrize("buffersize", [1, 2, 5])
def test_map_keeps_to_its_buffersize(pool: ThreadPoolExecutor, buffersize: int) -> None:
    counted = Counted()
    results = pool.map(abs, counted, buffersize=buffersize)
    assert counted.advanced == buffersize
    for taken in range(1, 200):
        next(results)
        assert counted.advanced == buffersize + taken


@pytest.mark.parametrize(("buffersize", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (1.5, TypeError)])
def test_map_refuses_a_wrong_buffersize(pool: ThreadPoolExecutor, buffersize: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="buffersize"):
        pool.map(abs, [1], buffersize=buffersize)


@pytest.mark.parametrize("ordered", [True, False])
def test_map_hands_out_every_result(pool: ThreadPoolExecutor, ordered: bool) -> None:
    results = list(pool.map(lambda item: item * 2, range(5000), ordered=ordered))
    assert (results if ordered else sorted(results)) == [item * 2 for item in range(5000)]


def test_unordered_results_overtake_a_slow_one(pool: ThreadPoolExecutor) -> None:
    event = threading.Event()
    results = pool.map(lambda item: event.wait(30) if item == 0 else item, range(4), ordered=False)
    assert sorted(itertools.islice(results, 3)) == [1, 2, 3]
    event.set()
    assert list(results) == [True]


@pytest.mark.parametrize("ordered", [True, False])
def test_map_raises_or_hands_out_exceptions(pool: ThreadPoolExecutor, ordered: bool) -> None:
    results = pool.map(lambda item: 1 // item, [1, 0, 1], ordered=ordered, return_exceptions=True)
    kinds = sorted(type(result).__name__ for result in results)
    assert kinds == ["ZeroDivisionError", "int", "int"]
    results = pool.map(lambda item: 1 // item, [0, 1], ordered=ordered, buffersize=1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_what_the_input_raises_comes_in_its_place(pool: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise LookupError("input")

    results = pool.map(abs, items())
    assert list(itertools.islice(results, 20)) == list(range(20))
    with pytest.raises(LookupError, match="input"):
        next(results)
    with pytest.raises(LookupError, match="at once"):
        pool.map(abs, fail_at_once())


def fail_at_once() -> Iterator[int]:
    raise LookupError("at once")
    yield


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_that_takes_too_long_cancels_its_rest(ordered: bool) -> None:
    with ThreadPoolExecutor(1) as pool:
        event = hold(pool, 1)
        ran: list[int] = []
        with pytest.raises(TimeoutError):
            next(pool.map(ran.append, range(8), timeout=0.01, ordered=ordered))
        event.set()
    assert ran == []


def test_a_map_that_was_iterated_and_dropped_cancels_its_rest() -> None:
    with ThreadPoolExecutor(1) as pool:
        counted = Counted()
        for item in pool.map(abs, counted):
            if item == 5:
                break
        assert counted.advanced < 100
        advanced = counted.advanced
    assert counted.advanced == advanced


@pytest.mark.parametrize("how", ["shutdown", "with", "drop", "no wait"])
def test_a_map_that_nobody_iterated_is_run_to_its_end(how: str) -> None:
    done: list[int] = []
    counted = Counted(1000)
    pool = ThreadPoolExecutor(2)
    if how == "with":
        with pool:
            pool.map(done.append, counted)
    else:
        pool.map(done.append, counted)
        if how == "shutdown":
            pool.shutdown()
        if how == "no wait":
            pool.shutdown(wait=False)
    del pool
    end = time.monotonic() + 30
    while len(done) < 1000 and time.monotonic() < end:
        time.sleep(0.001)
    assert sorted(done) == list(range(1000))
    assert counted.threads == {threading.get_ident()}


def test_a_map_can_be_iterated_after_shutdown() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(abs, range(500))
        first = next(results)
    assert [first, *results] == list(range(500))


def test_one_thread_iterates_while_another_shuts_down() -> None:
    pool = ThreadPoolExecutor(2)
    results = pool.map(abs, range(20_000))
    taken = [next(results)]
    thread = threading.Thread(target=pool.shutdown)
    thread.start()
    taken.extend(results)
    thread.join(60)
    assert taken == list(range(20_000))


def test_shutdown_that_cancels_ends_maps() -> None:
    pool = ThreadPoolExecutor(1)
    event = hold(pool, 1)
    counted = Counted()
    results = pool.map(abs, counted)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        next(results)
    event.set()
    assert counted.advanced == 4


class Plain(ThreadPoolExecutor):
    """A pool whose maps go through `submit`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(fn, *args, **kwargs)


GENERIC: list[Callable[[], Executor]] = [
    lambda: Plain(2),
    lambda: ThreadPoolExecutor(2).with_options(timeout=60),
    lambda: ExecutorWithOptions(concurrent.futures.ThreadPoolExecutor(2), retry=1),
    lambda: Through(AsyncExecutor(max_tasks=2)),
]


class Through(ExecutorWithOptions):
    """An async executor that takes plain functions."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        async def call() -> Any:
            return fn(*args, **kwargs)

        future: Future[Any] = self._executor.submit(call)  # type: ignore[assignment]
        return future


@pytest.mark.parametrize("make", GENERIC)
def test_shutdown_runs_out_the_maps_of_every_executor(make: Callable[[], Executor]) -> None:
    done: list[int] = []
    counted = Counted(500)
    with make() as executor:
        executor.map(done.append, counted)
        results = executor.map(abs, range(500))
        unordered = executor.map(abs, range(500), ordered=False)
        next(begun := executor.map(abs, itertools.count()))
        del begun
    assert sorted(done) == list(range(500))
    assert counted.threads == {threading.get_ident()}
    assert list(results) == sorted(unordered) == list(range(500))


@pytest.mark.parametrize("make", GENERIC)
def test_shutdown_that_cancels_ends_the_maps_of_every_executor(make: Callable[[], Executor]) -> None:
    executor = make()
    counted = Counted()
    results = executor.map(abs, counted, buffersize=3)
    executor.shutdown(cancel_futures=True)
    with contextlib.suppress(CancelledError):
        assert list(results) == [0, 1, 2]
    assert counted.advanced == 3


def test_a_pool_is_shut_down_although_the_input_of_a_map_fails() -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise LookupError("no more")

    pool = Plain(2)
    done: list[int] = []
    heard = pool.map(abs, items())
    pool.map(abs, items())
    pool.map(done.append, range(100))
    with pytest.raises(LookupError):
        pool.shutdown()
    assert len(done) == 100
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    assert [next(heard) for _ in range(100)] == list(range(100))
    with pytest.raises(LookupError):
        next(heard)


def test_a_map_keeps_its_pool_as_long_as_there_is_input() -> None:
    assert list(ThreadPoolExecutor(2).map(abs, range(500))) == list(range(500))


def test_an_input_may_not_advance_its_own_map(pool: ThreadPoolExecutor) -> None:
    results: Iterator[int] = iter(())

    def items() -> Iterator[int]:
        yield from range(8)
        with pytest.raises(ValueError, match="already"):
            next(results)
        yield 8

    results = pool.map(abs, items())
    assert list(results) == list(range(9))


def test_a_subclass_sees_each_task_of_a_map() -> None:
    class Logged(ThreadPoolExecutor):
        count = 0

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.count += 1
            return super().submit(fn, *args, **kwargs)

    with Logged(2) as pool:
        assert list(pool.map(abs, range(50))) == list(range(50))
        assert sorted(pool.map(abs, range(50), ordered=False)) == list(range(50))
        assert pool.count == 100
        counted = Counted()
        assert list(itertools.islice(pool.map(abs, counted, buffersize=3), 4)) == [0, 1, 2, 3]
        assert counted.advanced == 7


# Several futures


def test_wait_and_as_completed_take_both_kinds(pool: ThreadPoolExecutor) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as standard:
        futures: list[concurrent.futures.Future[int]] = [pool.submit(abs, 1), standard.submit(abs, 2), pool.submit(abs, 3)]
        assert wait(futures).done == set(futures)
        assert sorted(future.result() for future in as_completed(futures + futures)) == [1, 2, 3]
        futures = [pool.submit(abs, 1), standard.submit(abs, 2), pool.submit(abs, 3)]
        assert concurrent.futures.wait(futures).done == set(futures)
        assert len(list(concurrent.futures.as_completed(futures))) == 3


@pytest.mark.parametrize("kind", [Future, concurrent.futures.Future])
def test_wait_stops_at_the_first(kind: Callable[[], concurrent.futures.Future[int]]) -> None:
    first, second, third = kind(), kind(), kind()
    timer = threading.Timer(0.01, first.set_exception, [ValueError()])
    timer.start()
    assert wait([first, second, third], return_when="FIRST_EXCEPTION", timeout=30) == ({first}, {second, third})
    second.set_result(1)
    assert wait([second, third], return_when="FIRST_COMPLETED", timeout=30) == ({second}, {third})
    assert wait([second, third], timeout=0) == ({second}, {third})
    with pytest.raises(ValueError, match="return condition"):
        wait([first], return_when="NEVER")
    assert wait([]) == (set(), set())
    timer.join()


def test_as_completed_counts_from_its_call() -> None:
    pending: Future[int] = Future()
    done: Future[int] = Future()
    done.set_result(1)
    iterator = as_completed([pending, done], timeout=0)
    assert next(iterator) is done
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(iterator)
    assert list(as_completed([])) == []


# Options


def test_a_task_is_tried_again(pool: ThreadPoolExecutor) -> None:
    calls: list[int] = []

    def flaky(good: int) -> int:
        calls.append(1)
        if len(calls) < good:
            raise OSError(len(calls))
        return len(calls)

    assert pool.with_options(retry=2).submit(flaky, 3).result(30) == 3
    calls.clear()
    with pytest.raises(OSError, match="2"):
        pool.with_options(retry=1).submit(flaky, 3).result(30)
    calls.clear()
    with pytest.raises(OSError, match="1"):
        pool.with_options(retry=Retry(attempts=5, on=ValueError)).submit(flaky, 3).result(30)
    calls.clear()
    retry = Retry(attempts=3, base_secs=0.001)
    assert list(pool.with_options(retry=retry).map(flaky, [3])) == [3]


def test_a_task_that_waits_for_its_next_attempt_holds_no_worker_and_can_be_cancelled() -> None:
    with ThreadPoolExecutor(1) as pool:
        failed = threading.Event()

        def fails() -> None:
            failed.set()
            raise OSError

        retry = Retry(attempts=2, base_secs=1e6, max_delay_secs=1e6)
        future = pool.with_options(retry=retry).submit(fails)
        assert failed.wait(30)
        assert pool.submit(abs, -1).result(30) == 1
        assert not future.done()
        assert future.cancel()
        assert wait([future], timeout=0).done == {future}


def test_a_task_runs_out_of_time(pool: ThreadPoolExecutor) -> None:
    event = threading.Event()
    future = pool.with_options(timeout=0.02).submit(event.wait, 30)
    with pytest.raises(TimeoutError, match=r"0\.02 seconds") as timeout:
        future.result(30)
    assert isinstance(timeout.value, tricorne.TricorneError)
    event.set()
    assert pool.with_options(timeout=30).submit(abs, -1).result() == 1
    with pytest.raises(ValueError, match="timeout"):
        pool.with_options(timeout=0)
    with pytest.raises(ValueError, match="attempts"):
        Retry(attempts=0)


def test_options_leave_the_tasks_own_keywords_alone(pool: ThreadPoolExecutor) -> None:
    def task(*, timeout: int, retry: int) -> tuple[int, int]:
        return timeout, retry

    assert pool.with_options(timeout=30, retry=1).submit(task, timeout=1, retry=2).result() == (1, 2)


# Lifetime


def test_nothing_keeps_what_was_done(pool: ThreadPoolExecutor) -> None:
    def make(_: object) -> Thing:
        return Thing()

    thing = Thing()
    argument = weakref.ref(thing)
    result = weakref.ref(pool.submit(make, thing).result())
    del thing
    assert result() is None
    assert argument() is None
    for thing in pool.map(make, range(10)):
        watch = weakref.ref(thing)
        del thing
        assert watch() is None
    futures = [pool.submit(make, None) for _ in range(10)]
    wait(futures)
    for future in as_completed(futures):
        futures.remove(future)
        future_watch = weakref.ref(future)
        del future
        assert future_watch() is None
    future = pool.submit(make, None)
    thing = Thing()
    watch = weakref.ref(thing)
    future.add_done_callback(functools.partial(ignore, thing))
    del thing
    future.result()
    end = time.monotonic() + 30
    while watch() is not None and time.monotonic() < end:
        time.sleep(0.001)
    assert watch() is None


@pytest.mark.parametrize("inline", [False, True])
def test_what_a_task_with_options_raised_keeps_nothing_until_the_collector_comes(inline: bool) -> None:
    def fails(thing: Thing) -> None:
        raise ValueError

    def submit_and_wait() -> weakref.ref[Thing]:
        thing = Thing()
        assert isinstance(limited.submit(fails, thing).exception(30), ValueError)
        return weakref.ref(thing)

    with ThreadPoolExecutor(1) as pool:
        limited = pool.with_options(timeout=30, retry=1)
        gc.disable()
        try:
            watch = pool.submit(submit_and_wait).result(30) if inline else submit_and_wait()
            pool.submit(int).result(30)
            assert watch() is None
        finally:
            gc.enable()


def test_cancelling_between_two_attempts_lets_go_of_the_arguments(pool: ThreadPoolExecutor) -> None:
    def fails(thing: Thing) -> None:
        raise ValueError

    thing = Thing()
    watch = weakref.ref(thing)
    slow = pool.with_options(retry=Retry(attempts=2, base_secs=3000, max_delay_secs=3000))
    future = slow.submit(fails, thing)
    del thing
    end = time.monotonic() + 30
    while pool.stats().finished < 1 or future.running():
        assert time.monotonic() < end
        time.sleep(0.001)
    assert future.cancel()
    while watch() is not None:
        # The worker has the arguments until it has told of the attempt's end.
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_collector_finds_cycles_through_futures_and_pools() -> None:
    class Node(Future[Any]):
        pass

    node = Node()
    node.set_result(node)
    watch = weakref.ref(node)
    del node
    gc.collect()
    assert watch() is None

    node = Node()
    node.add_done_callback(functools.partial(ignore, node))
    watch = weakref.ref(node)
    del node
    gc.collect()
    assert watch() is None

    class Owner:
        def __init__(self) -> None:
            self.pool = ThreadPoolExecutor(1, initializer=self.prepare)

        def prepare(self) -> None:
            pass

    owner = Owner()
    owner_watch = weakref.ref(owner)
    del owner
    gc.collect()
    assert owner_watch() is None


def test_a_long_run_leaves_nothing_behind(deep: bool) -> None:
    """References, objects and memory stay flat, however many tasks there were."""
    rounds, tasks = (20, 50_000) if deep else (4, 5_000)

    def task(item: int) -> list[int]:
        return [item]

    def use(pool: ThreadPoolExecutor) -> None:
        for future in [pool.submit(task, item) for item in range(tasks)]:
            future.result()
        for _ in pool.map(task, range(tasks)):
            pass
        for _ in pool.map(task, range(tasks), ordered=False):
            pass

    with ThreadPoolExecutor(4) as pool:
        use(pool)
        gc.collect()
        before, references, memory = len(gc.get_objects()), sys.getrefcount(task), resident_bytes()
        for _ in range(rounds):
            use(pool)
        gc.collect()
        assert abs(len(gc.get_objects()) - before) < 100
        assert abs(sys.getrefcount(task) - references) < 10
        assert resident_bytes() - memory < 16_000_000


def test_many_pools_come_and_go(deep: bool) -> None:
    threads = threading.active_count()
    memory = 0
    for number in range(10_000 if deep else 500):
        if number == 100:
            memory = resident_bytes()
        future = ThreadPoolExecutor(2).submit(abs, -number)
        assert future.result(30) == number
    end = time.monotonic() + 30
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.001)
    assert threading.active_count() <= threads
    assert resident_bytes() - memory < 32_000_000


def resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except OSError:
        return 0


# The async executor


async def double(item: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return item * 2


def test_coroutines_run_on_a_loop_of_their_own() -> None:
    import asyncio

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def read() -> int:
        return variable.get()

    async def fails() -> None:
        raise LookupError("here")

    with AsyncExecutor() as executor:
        assert executor.submit(double, 4).result(30) == 8
        assert list(executor.map(double, range(600))) == [item * 2 for item in range(600)]
        variable.set(3)
        assert executor.submit(read).result(30) == 3
        with pytest.raises(LookupError, match="here"):
            executor.submit(fails).result(30)

        async def main() -> int:
            return await executor.submit(double, 5)

        assert asyncio.run(main()) == 10
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)


def test_cancelling_reaches_the_coroutine() -> None:
    import asyncio

    started, ended = threading.Event(), threading.Event()

    async def waits() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with AsyncExecutor() as executor:
        future = executor.submit(waits)
        assert started.wait(30)
        assert future.running()
        assert future.cancel()
        assert ended.wait(30)
        assert future.cancelled()
        assert wait([future], timeout=0).done == {future}


def test_no_more_coroutines_than_allowed() -> None:
    import asyncio

    under_way = most = 0

    async def count(_: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.001)
        finally:
            # Those that are cancelled because nobody wants the rest have ended too.
            under_way -= 1

    counted = Counted()
    with AsyncExecutor(max_tasks=3) as executor:
        list(itertools.islice(executor.map(count, counted), 40))
    assert most == 3
    assert counted.advanced <= 40 + 12 + 1


def test_nothing_that_a_coroutine_does_ends_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    def leave(*_: object) -> None:
        raise SystemExit(3)

    async def leaves() -> None:
        leave()

    async def stops() -> None:
        asyncio.get_running_loop().stop()

    async def leaves_later() -> None:
        asyncio.get_running_loop().call_soon(leave)

    event = threading.Event()

    async def waits() -> None:
        await asyncio.to_thread(event.wait, 30)

    with AsyncExecutor() as executor:
        other = executor.submit(waits)
        assert isinstance(executor.submit(leaves).exception(30), SystemExit)
        executor.submit(stops).result(30)
        executor.submit(leaves_later).result(30)
        other.add_done_callback(leave)
        event.set()
        assert other.result(30) is None
        assert executor.submit(double, 2).result(30) == 4
    assert caplog.text.count("in the event loop of an AsyncExecutor") == 2


def test_thousands_of_calls_may_fail_at_once() -> None:
    event = threading.Event()

    async def waits() -> None:
        event.wait(30)

    with AsyncExecutor(max_tasks=1) as executor:
        executor.submit(waits)
        not_a_coroutine_function: Any = abs
        not_coroutines: list[Future[Any]] = [executor.submit(not_a_coroutine_function, number) for number in range(3000)]
        event.set()
        assert not wait(not_coroutines, timeout=30).not_done
    with pytest.raises(TypeError, match="a coroutine was expected"):
        not_coroutines[-1].result()


def test_what_coroutines_leave_behind_is_cancelled_at_the_end() -> None:
    import asyncio

    ended_in: list[str] = []
    left: list[asyncio.Task[None]] = []

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended_in.append(threading.current_thread().name)

    async def leaves_a_task() -> None:
        left.append(asyncio.create_task(goes_on()))
        await asyncio.sleep(0)

    with AsyncExecutor(thread_name="loop") as executor:
        executor.submit(leaves_a_task).result(30)
    assert ended_in == ["loop"]
    assert left[0].cancelled()


def test_a_map_of_a_pool_that_was_shut_down_hands_out_its_window_and_ends() -> None:
    pool = ThreadPoolExecutor(2)
    results = pool.map(abs, range(100), buffersize=4)
    assert next(results) == 0
    pool.shutdown()
    handed_out = []
    with pytest.raises(RuntimeError, match="after shutdown"):
        for result in results:
            handed_out.append(result)
    assert handed_out == [1, 2, 3, 4]


def test_shutdown_raises_what_an_input_raises_once_all_is_done() -> None:
    def items() -> Iterator[int]:
        yield from range(50)
        raise ValueError("from the input")

    pool = ThreadPoolExecutor(1)
    with pytest.raises(ValueError, match="from the input"), pool:
        pool.map(abs, items())
        other = pool.map(abs, range(100))
    assert list(other) == list(range(100))
    assert pool.stats().workers == 0
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)


def test_an_interrupt_in_the_input_of_a_map_comes_at_once() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        results = pool.map(abs, items(), buffersize=8)
        handed_out = []
        with pytest.raises(KeyboardInterrupt):
            for result in results:
                handed_out.append(result)
        # Not the window before.
        assert handed_out == list(range(12))
        assert list(results) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_an_interrupted_shutdown_raises_and_loses_nothing() -> None:
    pool = ThreadPoolExecutor(1)

    def task(item: int) -> int:
        if item == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return item

    results = pool.map(task, range(1000))
    with pytest.raises(KeyboardInterrupt):
        pool.shutdown()
    assert list(results) == list(range(1000))
    pool.shutdown()
