"""What needs a process of its own: the end of the program, forks, signals, dumps of stacks."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

PRELUDE = """
import atexit, os, signal, sys, threading, time
from tricorne.futures import AsyncExecutor, Future, Retry, ThreadPoolExecutor, as_completed, wait
"""


def run(program: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + textwrap.dedent(program)
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def check(program: str, stdout: str, *, timeout: float = 60) -> None:
    done = run(program, timeout=timeout)
    assert (done.returncode, done.stdout, done.stderr) == (0, stdout, "")


# The end of the program


def test_pending_tasks_are_run_at_exit() -> None:
    done = run(
        """
        pool = ThreadPoolExecutor(2)
        for _ in range(4):
            pool.submit(lambda: (time.sleep(0.05), os.write(1, b"x")))
        pool.map(lambda _: os.write(1, b"m"), range(100))
        """
    )
    assert (done.returncode, sorted(done.stdout), done.stderr) == (0, ["m"] * 100 + ["x"] * 4, "")


def test_tasks_of_dropped_and_shut_down_pools_are_run_at_exit() -> None:
    check(
        """
        ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.05), os.write(1, b"x")))
        pool = ThreadPoolExecutor(1)
        pool.submit(lambda: (time.sleep(0.05), os.write(1, b"x")))
        pool.shutdown(wait=False)
        """,
        "xx",
    )


def test_coroutines_are_run_to_their_end_at_exit() -> None:
    check(
        """
        import asyncio
        async def write():
            await asyncio.sleep(0.05)
            os.write(1, b"x")
        AsyncExecutor().submit(write)
        executor = AsyncExecutor()
        executor.submit(write)
        """,
        "xx",
    )


def test_maps_of_every_executor_are_run_out_at_exit() -> None:
    done = run(
        """
        class Plain(ThreadPoolExecutor):
            def submit(self, fn, /, *args, **kwargs):
                return super().submit(fn, *args, **kwargs)
        async def write(_):
            os.write(1, b"a")
        pool, executor = Plain(2), AsyncExecutor()
        pool.map(lambda _: os.write(1, b"p"), range(100))
        pool.with_options(retry=1).map(lambda _: os.write(1, b"o"), range(100))
        executor.map(write, range(1000))
        """
    )
    assert (done.returncode, sorted(done.stdout), done.stderr) == (0, ["a"] * 1000 + ["o"] * 100 + ["p"] * 100, "")


def test_submitting_at_exit_is_refused() -> None:
    done = run(
        """
        @atexit.register
        def late():
            for submit in (lambda: pool.submit(int), lambda: ThreadPoolExecutor(1).submit(int)):
                try:
                    submit()
                except RuntimeError as error:
                    print(error)
        pool = ThreadPoolExecutor(1)
        pool.submit(int)
        """
    )
    message = "cannot schedule new futures after interpreter shutdown\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, message * 2, "")


def test_tasks_may_be_idle_or_in_a_long_call_when_the_program_ends() -> None:
    check(
        """
        pools = [ThreadPoolExecutor(4) for _ in range(8)]
        for pool in pools:
            for _ in range(50):
                pool.submit(len, "")
        pools[0].submit(time.sleep, 0.1)
        pools[1].with_options(retry=Retry(attempts=2, base_secs=1e6, max_delay_secs=1e6)).submit(lambda: 1 / 0)
        """,
        "",
    )


def test_daemon_threads_that_wait_do_not_hold_up_the_end() -> None:
    check(
        """
        pool = ThreadPoolExecutor(2)
        for _ in range(20):
            threading.Thread(target=lambda: Future().result(), daemon=True).start()
            threading.Thread(target=lambda: wait([Future()]), daemon=True).start()
        pool.submit(int).result()
        """,
        "",
    )


def test_ends_while_workers_come_and_go(deep: bool) -> None:
    """The interpreter ends at any moment of a worker's life: no crash, no hang, nothing on stderr."""
    for number in range(200 if deep else 12):
        done = run(
            f"""
            pools = [ThreadPoolExecutor(3) for _ in range(3)]
            for pool in pools:
                pool.submit(time.sleep, {number} / 10_000)
                pool.submit(len, "")
            del pools[1]
            def maps():
                try:
                    list(pool.map(abs, range(1000)))
                except RuntimeError:
                    pass
            if {number} % 2:
                threading.Thread(target=maps, daemon=True).start()
            """
        )
        assert (done.returncode, done.stderr) == (0, ""), number


# Forks

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_a_forked_child_uses_the_pool_and_learns_of_the_parents_futures() -> None:
    check(
        """
        import warnings, tricorne
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = ThreadPoolExecutor(2)
        executor = AsyncExecutor()
        async def double(item):
            return 2 * item
        assert executor.submit(double, 2).result() == 4
        event = threading.Event()
        running = pool.submit(event.wait, 30)
        pool.submit(event.wait, 30)
        waiting = pool.submit(abs, -1)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                assert pool.submit(abs, -5).result(10) == 5
                assert list(pool.map(abs, range(50))) == list(range(50))
                assert executor.submit(double, 3).result(10) == 6
                for future in (running, waiting):
                    try:
                        future.result(10)
                    except tricorne.BrokenExecutor:
                        pass
                    else:
                        os._exit(1)
                pool.shutdown()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        event.set()
        assert waiting.result(10) == 1
        """,
        "",
    )


@needs_fork
def test_forks_while_the_pool_is_busy() -> None:
    """No lock of the parent stays held in the child, at whatever moment it is forked, and its ordinary end comes."""
    check(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = ThreadPoolExecutor(4)
        stop = False
        def feed():
            while not stop:
                for future in [pool.submit(len, "") for _ in range(50)]:
                    future.result()
        feeders = [threading.Thread(target=feed) for _ in range(2)]
        for feeder in feeders:
            feeder.start()
        for _ in range(40):
            child = os.fork()
            if child == 0:
                assert pool.submit(abs, -5).result(10) == 5
                with ThreadPoolExecutor(2) as other:
                    assert sum(other.map(abs, range(100))) == 4950
                sys.exit(0)
            end = time.monotonic() + 30
            while (pid := os.waitpid(child, os.WNOHANG)[0]) == 0:
                if time.monotonic() > end:
                    os.kill(child, 9)
                    print("the child hangs")
                    break
                time.sleep(0.001)
        stop = True
        for feeder in feeders:
            feeder.join()
        """,
        "",
    )


@needs_fork
def test_a_fork_while_another_thread_starts_an_event_loop() -> None:
    check(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        start = threading.Thread.start
        starting, forked = threading.Event(), threading.Event()
        def slow_start(thread):
            if thread.name == "loop":
                starting.set()
                forked.wait(30)
            start(thread)
        threading.Thread.start = slow_start
        async def double(item):
            return 2 * item
        executor = AsyncExecutor(thread_name="loop")
        other = threading.Thread(target=executor.submit, args=(double, 1))
        other.start()
        starting.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            threading.Thread.start = start
            assert executor.submit(double, 3).result(10) == 6
            os._exit(0)
        forked.set()
        assert os.waitpid(child, 0)[1] == 0
        """,
        "",
    )


@needs_fork
def test_forks_while_workers_start(deep: bool) -> None:
    """Whatever is used for the first time in that moment, by whichever thread, is whole in the child.

    Each round is a process in which nothing was used before, forked from one that has only imported.
    """
    check(
        f"""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def wait_for(child, seconds):
            end = time.monotonic() + seconds
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
                if time.monotonic() > end:
                    os.kill(child, signal.SIGKILL)
                time.sleep(0.0005)
            return ended[1]
        def round():
            pool = ThreadPoolExecutor(4)
            def feed():
                for _ in range(20):
                    for future in [pool.submit(len, "") for _ in range(5)]:
                        future.result()
            for _ in range(2):
                threading.Thread(target=feed, daemon=True).start()
            child = os.fork()
            if child == 0:
                assert pool.submit(abs, -5).result() == 5
                with ThreadPoolExecutor(2) as other:
                    assert sum(other.map(abs, range(10))) == 45
                os._exit(0)
            os._exit(wait_for(child, 20) != 0)
        for number in range({3000 if deep else 200}):
            first = os.fork()
            if first == 0:
                round()
            if wait_for(first, 60) != 0:
                print("round", number, "failed")
                break
        """,
        "",
        timeout=300,
    )


@needs_fork
@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_of_the_parent_is_broken_in_a_child(ordered: bool) -> None:
    check(
        f"""
        import warnings, tricorne
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = ThreadPoolExecutor(2)
        results = pool.map(abs, range(1000), ordered={ordered})
        next(results)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                next(results)
            except tricorne.BrokenExecutor:
                del results
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(list(results)) == 999
        """,
        "",
    )


@needs_fork
def test_fork_hooks_that_come_first_find_a_pool_of_the_child() -> None:
    """A pool notices a fork before any Python code runs in the child."""
    program = """
    import os, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    os.register_at_fork(after_in_child=lambda: print(pool.submit(abs, -5).result(20), flush=True))
    from tricorne.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(2)
    pool.submit(abs, 1).result()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


@needs_fork
def test_a_task_may_fork() -> None:
    check(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        def forks():
            child = os.fork()
            if child == 0:
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with ThreadPoolExecutor(2) as pool:
            print(pool.submit(forks).result())
        """,
        "7\n",
    )


# Signals

WAITS = {
    "result": "Future().result()",
    "result with a limit": "Future().result(60)",
    "exception": "Future().exception()",
    "wait": "wait([Future(), Future()])",
    "as_completed": "next(as_completed([Future()]))",
    "map": "next(pool.map(time.sleep, [60]))",
    "unordered map": "next(pool.map(time.sleep, [60], ordered=False))",
    "task": "pool.submit(time.sleep, 60).result()",
    "shutdown": "pool.submit(time.sleep, 60); pool.shutdown()",
    "many small tasks": "[future.result() for future in [pool.submit(len, '') for _ in range(10**7)]]",
    "map over millions": "sum(pool.map(len, ('' for _ in range(10**9))))",
    "coroutine": "import asyncio; AsyncExecutor().submit(asyncio.sleep, 60).result()",
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
@pytest.mark.parametrize("how", WAITS)
def test_ctrl_c_ends_every_wait_soon(how: str) -> None:
    program = f"""
pool = ThreadPoolExecutor(2)
print("ready", flush=True)
try:
    {WAITS[how]}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
    os._exit(0)
"""
    command = [sys.executable, "-c", PRELUDE + program]
    late = []
    # On a busy machine one of them may come late for reasons of its own.
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                time.sleep(0.05)
                sent = time.monotonic()
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 0
        late.append(float(out) - sent)
        if late[-1] < 0.1:
            return
    pytest.fail(f"interrupted after {late} seconds")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
def test_a_wait_goes_on_after_a_handler_that_returns() -> None:
    check(
        """
        handled = 0
        def handler(*_):
            global handled
            handled += 1
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        begin = time.monotonic()
        for waits in (lambda: Future().result(0.3), lambda: next(as_completed([Future()], 0.3))):
            try:
                waits()
            except TimeoutError:
                pass
        assert not wait([Future()], 0.3).done
        took = time.monotonic() - begin
        assert 0.9 <= took < 5, took
        pool = ThreadPoolExecutor(1)
        assert pool.submit(lambda: (time.sleep(0.2), 5)[1]).result(30) == 5
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert handled >= 3
        """,
        "",
    )


def test_stacks_can_be_dumped_while_many_threads_wait() -> None:
    done = run(
        """
        import faulthandler
        pool = ThreadPoolExecutor(25)
        future = Future()
        for _ in range(25):
            pool.submit(future.result)
            threading.Thread(target=future.result).start()
        while pool.stats().running < 25:
            time.sleep(0.001)
        faulthandler.dump_traceback(all_threads=True)
        future.set_result(1)
        """
    )
    assert done.returncode == 0
    assert done.stderr.count("Thread 0x") >= 26 if sys.version_info < (3, 13) else "hread 0x" in done.stderr


def test_what_an_input_raises_at_exit_loses_no_task_of_another_pool() -> None:
    done = run(
        """
        pool, other = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        def input():
            yield from range(50)
            raise ValueError("from the input")
        pool.map(abs, input())
        start = threading.Event()
        other.submit(lambda: (start.wait(30), time.sleep(0.1), print("done")))
        start.set()
        """
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "ValueError: from the input" in done.stderr


def test_limits_are_kept_at_exit() -> None:
    """A limit that has not passed does not end a task, and the deadline of a token that has not passed does not cancel it."""
    check(
        """
        from tricorne import CancelToken
        pool = ThreadPoolExecutor(1)
        limited = pool.with_options(timeout=600)
        guard = CancelToken(timeout=3600).on_cancel(lambda: print("cancelled"))
        for item in range(3):
            future = limited.submit(lambda item: time.sleep(0.1) or item, item)
            future.add_done_callback(lambda future: print(future.result()))
        """,
        "0\n1\n2\n",
    )
