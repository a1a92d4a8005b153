"""`tricorne.Caller`: none of the faults that the tutorial's request and answer system has (section 2.4, numbered as in its notes)."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import tricorne
from tricorne import Caller
from tricorne.futures import ThreadPoolExecutor


def echo(request: str) -> str:
    return request


def test_fault_1_no_caller_sleeps_while_its_answer_is_there() -> None:
    """With one condition for all, `notify` wakes a caller whose answer is not there, and the right one sleeps to its limit."""

    def model(request: int) -> int:
        time.sleep(0.002)
        return request * 2

    with Caller(model, workers=3) as caller, ThreadPoolExecutor(30) as callers:
        begin = time.monotonic()
        answers = list(callers.map(lambda request: caller.call(request, timeout=30), range(90)))
        assert answers == [request * 2 for request in range(90)]
        # A caller that had slept to its limit would have taken 30 seconds.
        assert time.monotonic() - begin < 20


def test_fault_2_equal_requests_and_reused_addresses_get_their_own_answers() -> None:
    count = 0

    def number(request: str) -> tuple[str, int]:
        nonlocal count
        count += 1
        return request, count

    with Caller(number) as caller:
        answers = [caller.call("same " + str(turn % 3)) for turn in range(300)]
    assert [text for text, _ in answers] == ["same " + str(turn % 3) for turn in range(300)]
    assert len({number for _, number in answers}) == 300


class Thing:
    """Something that a weak reference can watch."""


def test_fault_3_no_answer_is_kept() -> None:
    def make(request: Thing) -> Thing:
        return Thing()

    with Caller(make, workers=2) as caller:
        request = Thing()
        watch_request = weakref.ref(request)
        watch_answer = weakref.ref(caller.call(request))
        del request
        until(lambda: watch_answer() is None and watch_request() is None)
        before = count_things()
        for _ in range(500):
            caller.call(Thing())
        until(lambda: count_things() <= before)


def count_things() -> int:
    return sum(isinstance(thing, Thing) for thing in gc.get_objects())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_fault_4_a_late_answer_reaches_nobody() -> None:
    release = threading.Event()
    answers: list[weakref.ref[Thing]] = []

    def slow(_: object) -> Thing:
        release.wait(30)
        answers.append(weakref.ref(thing := Thing()))
        return thing

    with Caller(slow) as caller:
        with pytest.raises(TimeoutError):
            caller.call("first", timeout=0.01)
        with pytest.raises(TimeoutError):
            caller.call("never begun", timeout=0.01)
        release.set()
        assert caller.call("second", timeout=30) is answers[-1]()
        until(lambda: answers[0]() is None)
    # The one whose caller had gone was not called for.
    assert len(answers) == 2
    assert caller.stats().dropped == 1


def test_fault_5_a_time_out_is_raised_and_an_answer_may_be_any_text() -> None:
    release = threading.Event()

    def model(request: str) -> str:
        if request == "slow":
            release.wait(30)
        return request

    with Caller(model) as caller:
        assert caller.call("Timeout") == "Timeout"
        with pytest.raises(TimeoutError) as raised:
            caller.call("slow", timeout=0.01)
        assert isinstance(raised.value, tricorne.TricorneError)
        release.set()


def test_fault_6_what_a_call_raises_is_raised_by_its_caller_and_the_workers_go_on() -> None:
    def fails(request: int) -> int:
        if request % 2:
            raise LookupError(request)
        if request % 5 == 0:
            raise SystemExit
        return request

    with Caller(fails, workers=2) as caller:
        for request in range(100):
            expected = LookupError if request % 2 else SystemExit if request % 5 == 0 else None
            if expected is None:
                assert caller.call(request, timeout=30) == request
            else:
                with pytest.raises(expected):
                    caller.call(request, timeout=30)
    stats = caller.stats()
    assert (stats.requests, stats.answered, stats.failed) == (100, 40, 60)


def test_fault_7_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    release = threading.Event()

    def model(request: int) -> int:
        release.wait(30)
        return request

    caller = Caller(model, workers=2)
    futures = [caller.submit(number) for number in range(50)]
    caller.close(wait=False)
    with pytest.raises(RuntimeError, match="closed"):
        caller.call(1)
    release.set()
    caller.close()
    assert [future.result(0) for future in futures] == list(range(50))


def test_fault_7_the_queue_is_bounded() -> None:
    release = threading.Event()

    def model(request: int) -> bool:
        return release.wait(30)

    with Caller(model, max_queue=2) as caller:
        futures = [caller.submit(0)]
        until(lambda: caller.stats().waiting == 0)
        futures += [caller.submit(1), caller.submit(2)]
        with pytest.raises(TimeoutError, match="room"):
            caller.submit(3, timeout=0.01)
        release.set()
        assert [future.result(30) for future in futures] == [True] * 3


def test_fault_7_the_end_of_the_program_cuts_nothing_off() -> None:
    program = """
import os, time
from tricorne import Caller
caller = Caller(lambda request: (time.sleep(0.01), os.write(1, b"x")), workers=2, max_batch=None)
for _ in range(10):
    caller.submit(1)
idle = Caller(len, workers=3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x" * 10, "")


def test_tasks_of_pools_may_ask_at_the_end_of_the_program() -> None:
    program = """
import os, time
from tricorne import Caller
from tricorne.futures import AsyncExecutor, ThreadPoolExecutor
caller = Caller(lambda request: os.write(1, request))
pool, executor = ThreadPoolExecutor(1), AsyncExecutor()
def task():
    time.sleep(0.05)
    caller.call(b"x")
async def coroutine():
    await caller.acall(b"x")
for _ in range(3):
    pool.submit(task)
    executor.submit(coroutine)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x" * 6, "")


def test_a_worker_may_close_its_caller() -> None:
    def close(_: object) -> None:
        caller.close()

    caller = Caller(close, workers=2)
    assert caller.call(1, timeout=30) is None
    with pytest.raises(RuntimeError, match="closed"):
        caller.call(1)


def test_closing_may_cancel() -> None:
    release, begun = threading.Event(), threading.Event()

    def call(_: object) -> bool:
        begun.set()
        return release.wait(30)

    caller = Caller(call)
    first = caller.submit(0)
    assert begun.wait(30)
    rest = [caller.submit(number) for number in range(5)]
    caller.close(wait=False, cancel=True)
    assert all(future.cancelled() for future in rest)
    release.set()
    assert first.result(30) is True


def test_a_caller_that_is_dropped_is_closed() -> None:
    def negative(request: int) -> int:
        return -request

    threads = threading.active_count()
    for number in range(50):
        assert Caller(negative, workers=2).call(-number, timeout=30) == number
    until(lambda: threading.active_count() <= threads)


def test_requests_are_batched() -> None:
    sizes: list[int] = []
    release = threading.Event()

    def lengths(requests: list[str]) -> list[int]:
        release.wait(30)
        sizes.append(len(requests))
        return [len(request) for request in requests]

    with Caller(lengths, max_batch=8) as caller:
        futures = [caller.submit("x" * number) for number in range(33)]
        release.set()
        assert [future.result(30) for future in futures] == list(range(33))
    assert max(sizes) == 8
    assert sum(sizes) == 33
    assert caller.stats().calls == len(sizes) <= 6


def test_a_batch_waits_for_more_but_not_for_ever() -> None:
    sizes: list[int] = []

    def count(requests: list[int]) -> list[int]:
        sizes.append(len(requests))
        return requests

    with Caller(count, max_batch=2, max_wait=30.0) as caller, ThreadPoolExecutor(2) as callers:
        # Two callers that come one after the other share a call, far before `max_wait` is over.
        assert sorted(callers.map(caller.call, [1, 2])) == [1, 2]
    assert sizes == [2]
    with Caller(count, max_batch=2, max_wait=0.01) as caller:
        assert caller.call(1, timeout=30) == 1


def test_one_answer_of_a_batch_may_be_an_exception() -> None:
    def divide(requests: list[int]) -> list[Any]:
        return [ZeroDivisionError(request) if request == 0 else 1 / request for request in requests]

    with Caller(divide, max_batch=4, max_wait=0.05) as caller:
        futures = [caller.submit(request) for request in (1, 0, 2)]
        assert futures[0].result(30) == 1
        assert isinstance(futures[1].exception(30), ZeroDivisionError)
        assert futures[2].result(30) == 0.5


def test_a_wrong_number_of_answers_is_an_error() -> None:
    def forget(requests: list[int]) -> list[int]:
        return requests[1:]

    with Caller(forget, max_batch=4) as caller, pytest.raises(ValueError, match="0 answers to 1"):
        caller.call(1, timeout=30)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"max_batch": 0}, {"max_queue": 0}, {"max_wait": -1.0}, {"max_wait": float("nan")}, {"max_wait": float("inf")}, {"timeout": float("nan")}])
def test_numbers_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Caller(echo, **wrong)


def test_a_limit_is_a_number() -> None:
    with Caller(echo) as caller, pytest.raises(ValueError, match="timeout"):
        caller.call("x", timeout=float("nan"))


def test_a_callback_that_raises_anything_harms_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    release, begun = threading.Event(), threading.Event()

    def answer(requests: list[int]) -> list[int]:
        begun.set()
        release.wait(30)
        return requests

    def leave(_: object) -> None:
        raise SystemExit

    with Caller(answer, max_batch=4) as caller:
        first = caller.submit(0)
        assert begun.wait(30)
        futures = [caller.submit(number) for number in range(1, 5)]
        futures[0].add_done_callback(leave)
        late = caller.submit(5, timeout=0)
        late.add_done_callback(leave)
        release.set()
        assert [future.result(30) for future in [first, *futures]] == list(range(5))
        assert isinstance(late.exception(30), TimeoutError)
        assert caller.call(6, timeout=30) == 6
    assert caplog.text.count("exception in a callback of a request") == 2


@pytest.mark.parametrize("max_batch", [None, 2])
def test_what_is_raised_keeps_no_request_until_the_collector_comes(max_batch: int | None) -> None:
    def fails(request: object) -> Any:
        raise ValueError

    gc.disable()
    try:
        with Caller(fails, max_batch=max_batch) as caller:
            request = Thing()
            watch = weakref.ref(request)
            assert isinstance(caller.submit(request).exception(30), ValueError)
            del request
            until(lambda: watch() is None)
    finally:
        gc.enable()


def test_async_callers_wait_cancel_and_run_out_of_time() -> None:
    release = threading.Event()

    def call(request: int) -> int:
        if request == 0:
            release.wait(30)
        if request < 0:
            raise LookupError(request)
        return request

    async def main(caller: Caller[int, int]) -> None:
        assert await asyncio.gather(*(caller.acall(number) for number in range(1, 200))) == list(range(1, 200))
        with pytest.raises(LookupError):
            await caller.acall(-1)
        slow = asyncio.create_task(caller.acall(0))
        while caller.stats().requests < 201:
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await caller.acall(5, timeout=0.01)
        waiting = asyncio.create_task(caller.acall(6))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        assert await slow == 0
        assert await caller.acall(7) == 7

    with Caller(call) as caller:
        asyncio.run(main(caller))


def test_ten_thousand_callers_get_their_own_answers() -> None:
    def double(requests: list[int]) -> list[int]:
        return [request * 2 for request in requests]

    async def main(caller: Caller[int, int]) -> list[int]:
        return list(await asyncio.gather(*(caller.acall(number, timeout=60) for number in range(10_000))))

    with Caller(double, workers=8, max_batch=32, max_queue=256) as caller:
        assert asyncio.run(main(caller)) == [number * 2 for number in range(10_000)]

        answers: dict[int, list[int]] = {}

        def calls(index: int) -> None:
            answers[index] = [caller.call(index * 1000 + turn, timeout=60) for turn in range(40)]

        threads = [threading.Thread(target=calls, args=(index,)) for index in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == {index: [(index * 1000 + turn) * 2 for turn in range(40)] for index in range(100)}
    stats = caller.stats()
    assert (stats.requests, stats.answered, stats.failed, stats.dropped) == (14_000, 14_000, 0, 0)
