"""`tricorne.CancelToken` and `tricorne.graceful`."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import Iterator

import pytest

from tricorne import CancelledError, CancelToken, graceful
from tricorne.futures import AsyncExecutor, ThreadPoolExecutor


def test_a_tree_is_cancelled_from_above_only() -> None:
    root = CancelToken()
    left, right = root.child(), root.child()
    leaf = left.child()
    left.cancel()
    assert [token.is_cancelled() for token in (root, left, right, leaf)] == [False, True, False, True]
    root.cancel()
    assert right.is_cancelled()
    assert root.child().is_cancelled()
    with pytest.raises(CancelledError):
        root.raise_if_cancelled()
    assert "cancelled" in repr(root)


def test_waiting_ends_by_a_cancel_by_time_or_by_the_deadline() -> None:
    token = CancelToken()
    assert not token.wait(0.01)
    thread = threading.Thread(target=token.cancel)
    thread.start()
    assert token.wait(30)
    thread.join()
    begin = time.monotonic()
    assert CancelToken(0.02).wait()
    assert CancelToken(30).child(0.02).wait(30)
    assert CancelToken(0.02).child(30).wait(30)
    assert time.monotonic() - begin < 20
    assert CancelToken(0).is_cancelled()


def test_a_deadline_is_told() -> None:
    assert CancelToken().remaining_secs() is None
    remaining = CancelToken(100).child(200).remaining_secs()
    assert remaining is not None
    assert 50 < remaining <= 100
    assert CancelToken(-1).remaining_secs() == 0


def test_callbacks_run_once_and_can_be_taken_back() -> None:
    token = CancelToken()
    seen: list[str] = []
    guards = [token.on_cancel(lambda: seen.append("kept")), token.on_cancel(lambda: seen.append("removed"))]
    dropped = token.on_cancel(lambda: seen.append("dropped"))
    del dropped
    guards[1].remove()
    token.cancel()
    token.cancel()
    assert seen == ["kept"]
    late = token.on_cancel(lambda: seen.append("late"))
    assert seen == ["kept", "late"]
    late.remove()


def test_callbacks_run_at_the_deadline_without_anybody_looking() -> None:
    called = threading.Event()
    guard = CancelToken(0.02).on_cancel(called.set)
    assert called.wait(30)
    guard.remove()


def test_async_waits() -> None:
    async def main() -> None:
        token = CancelToken()
        assert not await token.wait_async(0.01)
        asyncio.get_running_loop().call_later(0.01, token.cancel)
        assert await token.wait_async()
        assert await CancelToken(0.02).wait_async(30)

    asyncio.run(main())


def test_a_token_and_its_callback_go_when_they_are_let_go() -> None:
    class Thing:
        def call(self) -> None:
            pass

    thing = Thing()
    token = CancelToken(1000)
    guard = token.on_cancel(thing.call)
    watch, token_watch = weakref.ref(thing), weakref.ref(token)
    del thing, token
    assert token_watch() is not None
    guard.remove()
    del guard
    assert watch() is None
    assert token_watch() is None


# graceful


def test_a_block_without_a_signal_runs_every_task_and_puts_handlers_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    done: list[int] = []
    with graceful(pool := ThreadPoolExecutor(2), executor := AsyncExecutor()) as stop:
        for number in range(50):
            pool.submit(done.append, number)
        assert executor.submit(asyncio.sleep, 0, "answer").result(30) == "answer"
        assert signal.getsignal(signal.SIGTERM) is not before
    assert sorted(done) == list(range(50))
    assert (stop.signal, stop.exit_code, stop.drained, stop.is_set()) == (None, 0, True, False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_exception_cancels_what_has_not_begun() -> None:
    release = threading.Event()
    pool = ThreadPoolExecutor(1)
    with pytest.raises(LookupError), graceful(pool):
        begun = threading.Event()

        def task() -> None:
            begun.set()
            release.wait(30)

        pool.submit(task)
        waiting = pool.submit(int)
        assert begun.wait(30)
        release.set()
        raise LookupError
    assert waiting.cancelled() or waiting.done()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_nested_blocks_are_all_asked_to_stop() -> None:
    with graceful() as outer:
        with graceful(signals=[signal.SIGTERM]) as other, graceful() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            assert inner.wait(30)
        assert (inner.signal, outer.signal, outer.is_set()) == (signal.SIGINT, signal.SIGINT, True)
        assert (other.signal, other.is_set()) == (None, False)


def test_what_an_input_raises_while_the_executors_end_is_raised_after_the_block() -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise LookupError("no more")

    advancing: set[int] = set()

    def noted() -> Iterator[int]:
        for item in items():
            advancing.add(threading.get_ident())
            yield item

    done: list[int] = []
    with pytest.raises(LookupError, match="no more"), graceful(pool := ThreadPoolExecutor(1), other := ThreadPoolExecutor(1)):
        pool.map(done.append, noted())
        late = other.submit(int)
    assert len(done) == 100
    assert late.done()
    # An input may belong to its thread, like a cursor of a database.
    assert advancing == {threading.get_ident()}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_a_signal_ends_the_run_of_the_rest_of_a_map() -> None:
    with graceful(pool := ThreadPoolExecutor(1), timeout=30) as stop:
        view = pool.with_options(retry=1)
        done: list[int] = []
        # Without end, so that the block ends by the signal or never.
        pool.map(done.append, itertools.count())
        view.map(done.append, itertools.count())
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    assert (stop.signal, stop.drained) == (signal.SIGTERM, True)


def test_what_a_callback_raises() -> None:
    class Leave(BaseException):
        pass

    def leave() -> None:
        raise Leave

    token = CancelToken()
    called: list[int] = []
    guards = [token.on_cancel(leave), token.on_cancel(lambda: called.append(1))]
    # An interrupt is not lost, and keeps no other callback from being called.
    with pytest.raises(Leave):
        token.cancel()
    assert called == [1]
    with pytest.raises(Leave):
        token.on_cancel(leave)
    assert len(guards) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_timer_of_its_own() -> None:
    token = CancelToken(0.2)
    kept = token.on_cancel(lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        called = threading.Event()
        guard = token.on_cancel(called.set)
        os._exit(0 if called.wait(30) and guard else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    kept.remove()


def test_the_limit_is_a_number() -> None:
    with pytest.raises(ValueError, match="timeout"), graceful(timeout=float("nan")):
        pass


def test_elsewhere_than_in_the_main_thread_it_is_refused() -> None:
    raised: list[BaseException] = []

    def use() -> None:
        try:
            with graceful():
                pass
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(raised) == 1


PROGRAM = """
import os, signal, sys, threading, time
from tricorne import graceful
from tricorne.futures import ThreadPoolExecutor
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_asks_and_the_running_task_comes_to_its_end(name: str, code: int) -> None:
    done = run(
        f"""
        with graceful(pool := ThreadPoolExecutor(1), timeout=30) as stop:
            running = pool.submit(lambda: (time.sleep(0.3), "whole")[1])
            while not running.running():
                time.sleep(0.001)
            waiting = [pool.submit(time.sleep, 60) for _ in range(5)]
            os.kill(os.getpid(), signal.{name})
            assert stop.wait(10)
        print(running.result(0), sum(future.cancelled() for future in waiting), stop.drained)
        sys.exit(stop.exit_code)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "whole 5 True\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_the_limit_and_the_second_signal() -> None:
    done = run(
        """
        with graceful(pool := ThreadPoolExecutor(1), timeout=0.05) as stop:
            pool.submit(time.sleep, 60)
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            stop.wait(10)
        print(stop.drained, flush=True)
        try:
            with graceful() as stop:
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        os._exit(stop.exit_code)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "False\ninterrupted\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_a_signal_while_the_executors_end_hurries_them() -> None:
    done = run(
        """
        with graceful(pool := ThreadPoolExecutor(1), timeout=30) as stop:
            waiting = [pool.submit(time.sleep, 0.05) for _ in range(1000)]
            threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
        print(stop.exit_code, stop.drained, sum(future.cancelled() for future in waiting) > 900)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "143 True True\n", "")
