"""The process pool."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import process_tasks as tasks
import pytest

import tricorne
from tricorne.futures import Future, ProcessPoolExecutor, Retry, as_completed, wait
from tricorne.futures.process import BrokenProcessPool, OutputLine, ProcessFuture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process pool is for Linux")


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2) as pool:
        yield pool


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.002)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# Tasks and results


def test_a_task_runs_in_another_process(pool: ProcessPoolExecutor) -> None:
    future = pool.submit(tasks.square, 7)
    assert future.result() == 49
    assert isinstance(future, Future) and isinstance(future, concurrent.futures.Future)
    assert isinstance(pool, concurrent.futures.ProcessPoolExecutor)
    assert pool.submit(tasks.pid).result() not in (os.getpid(), 0)
    assert pool.submit(pow, 2, 5, mod=7).result() == 4


def test_many_tasks(pool: ProcessPoolExecutor) -> None:
    futures = [pool.submit(tasks.square, number) for number in range(500)]
    assert [future.result() for future in futures] == [number * number for number in range(500)]
    futures = [pool.submit(tasks.square, number) for number in range(100)]
    assert sorted(future.result() for future in as_completed(futures)) == [number * number for number in range(100)]
    assert wait([pool.submit(tasks.square, 3)]).not_done == set()


def test_functions_without_a_name(pool: ProcessPoolExecutor) -> None:
    offset = 5
    assert pool.submit(lambda value: value + offset, 2).result() == 7
    assert list(pool.map(lambda value: value + offset, range(50))) == list(range(5, 55))
    assert pool.submit("a,b".split, ",").result() == ["a", "b"]


def test_a_function_that_refers_to_something_else_now_is_sent_again(pool: ProcessPoolExecutor) -> None:
    box = [1]
    limit = 1

    def of_box() -> int:
        return box[0]

    def of_limit() -> int:
        return limit

    results = []
    for value in (1, 2, 3):
        box[0] = limit = value
        results += [(pool.submit(of_box).result(), pool.submit(of_limit).result()) for _ in range(3)]
    assert results == [(value, value) for value in (1, 2, 3) for _ in range(3)]


def test_a_callable_object_is_sent_as_it_is(pool: ProcessPoolExecutor) -> None:
    counted = [1]
    first = pool.submit(counted.__getitem__, 0).result()
    counted[0] = 2
    assert (first, pool.submit(counted.__getitem__, 0).result()) == (1, 2)


def test_arrays_go_both_ways_and_stay_writable(pool: ProcessPoolExecutor) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(1_000_000, dtype="float64")
    for _ in range(5):
        back = pool.submit(tasks.echo, array).result()
        assert (back == array).all() and back.flags.writeable
        back[0] = -1.0
        assert array[0] == 0.0
    small, transposed = numpy.arange(10), array.reshape(1000, 1000).T
    assert (pool.submit(tasks.echo, small).result() == small).all()
    assert (pool.submit(tasks.echo, transposed).result() == transposed).all()
    assert (pool.submit(tasks.echo, array[::2]).result() == array[::2]).all()
    big = os.urandom(300_000)
    assert pool.submit(tasks.echo, big).result() == big


def test_the_initializer_runs_in_each_worker() -> None:
    with ProcessPoolExecutor(2, initializer=tasks.set_state, initargs=("key", 5)) as pool:
        assert set(pool.map(tasks.get_state, ["key"] * 20)) == {5}


def test_an_initializer_that_raises_breaks_the_pool(capfd: pytest.CaptureFixture[str]) -> None:
    with ProcessPoolExecutor(2, initializer=tasks.fail, initargs=("no model",)) as pool:
        future = pool.submit(tasks.square, 1)
        with pytest.raises(tricorne.BrokenProcessPool, match="no model"):
            future.result()
        with pytest.raises(BrokenProcessPool):
            pool.submit(tasks.square, 1)
    assert "ValueError: no model" in capfd.readouterr().err


def test_workers_are_replaced_after_so_many_tasks() -> None:
    with ProcessPoolExecutor(1, max_tasks_per_child=3) as pool:
        pids = [pool.submit(tasks.pid).result() for _ in range(7)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_wrong_arguments() -> None:
    for arguments in (
        {"max_workers": 0},
        {"max_tasks_per_child": 0},
        {"on_crash": "ignore"},
        {"timeout": 0},
        {"max_memory": 0},
        {"stdout": "nowhere"},
    ):
        with pytest.raises(ValueError):
            ProcessPoolExecutor(**arguments)
    with pytest.raises(TypeError):
        ProcessPoolExecutor(initializer=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ProcessPoolExecutor(max_tasks_per_child=1.5)  # type: ignore[arg-type]


# Errors


def test_the_exception_has_the_frames_of_the_worker(pool: ProcessPoolExecutor) -> None:
    raised = pool.submit(tasks.fail_from, "inner").exception()
    assert isinstance(raised, KeyError)
    names = [frame.name for frame in traceback.extract_tb(raised.__traceback__)]
    assert names == ["fail_from"]
    remote = raised.__cause__
    assert type(remote).__name__ == "_RemoteTraceback"
    assert "raise KeyError" in remote.tb  # type: ignore[union-attr]
    inner = remote.__cause__  # type: ignore[union-attr]
    assert isinstance(inner, ValueError) and inner.args == ("inner",)
    assert [frame.name for frame in traceback.extract_tb(inner.__traceback__)] == ["fail_from", "fail"]
    printed = "".join(traceback.format_exception(raised))
    # Once as a frame, and once in the text of the cause, where programs look that know the standard library's.
    for line in ("raise ValueError(text)", 'raise KeyError("outer") from cause'):
        assert line in str(remote)
        assert printed.count(line) == 2


def test_exceptions_of_all_kinds_are_results(pool: ProcessPoolExecutor) -> None:
    assert isinstance(pool.submit(sys.exit, 3).exception(), SystemExit)
    assert isinstance(pool.submit(tasks.square).exception(), TypeError)  # type: ignore[call-arg]
    with pytest.raises(KeyboardInterrupt):
        pool.submit(exec, "raise KeyboardInterrupt").result()
    assert pool.submit(tasks.square, 2).result() == 4


def test_what_cannot_be_sent_fails_one_future(pool: ProcessPoolExecutor) -> None:
    first = pool.submit(tasks.pid).result()
    with pytest.raises(pickle.PicklingError):
        pool.submit(tasks.echo, tasks.NotSent()).result()
    with pytest.raises(pickle.PicklingError):
        pool.submit(tasks.give_not_sent).result()
    for future in (pool.submit(tasks.echo, tasks.NotRead()), pool.submit(tasks.give_not_read)):
        with pytest.raises(ZeroDivisionError):
            future.result()
    for function, words in ((tasks.raise_not_sent, "a secret"), (tasks.raise_not_read, "one")):
        with pytest.raises(tricorne.RemoteError, match=words):
            pool.submit(function).result()
    assert first in pool.worker_pids()
    assert pool.stats().crashed == 0


# Crashes


@pytest.mark.parametrize(
    ("function", "argument", "exit_code", "signal_"),
    [(tasks.leave, 0, 0, None), (tasks.leave, 3, 3, None), (tasks.touch_or_die, None, None, signal.SIGKILL)],
)
def test_a_crash_costs_one_task(
    tmp_path: Path, function: Callable[..., Any], argument: int | None, exit_code: int | None, signal_: int | None
) -> None:
    with ProcessPoolExecutor(2) as pool:
        others = [pool.submit(tasks.touch, str(tmp_path), number) for number in range(50)]
        crashed = pool.submit(function, *((str(tmp_path), 1000, 1000) if argument is None else (argument,)))
        others += [pool.submit(tasks.touch, str(tmp_path), number) for number in range(50, 100)]
        raised = crashed.exception()
        assert [future.result() for future in others] == list(range(100))
        assert pool.submit(tasks.square, 3).result() == 9
    assert isinstance(raised, tricorne.WorkerCrashed) and isinstance(raised, BrokenProcessPool)
    assert (raised.exit_code, raised.signal) == (exit_code, signal_)
    assert raised.pid > 0 and raised.task > 0 and raised.peak_memory and raised.peak_memory > 1 << 20
    assert all((tmp_path / str(number)).read_text() == "x" for number in range(100))


def test_the_report_of_a_crash_has_the_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    with ProcessPoolExecutor(1) as pool:
        raised = pool.submit(tasks.abort).exception()
    assert isinstance(raised, tricorne.WorkerCrashed)
    assert raised.signal == signal.SIGABRT and "about to abort" in raised.stderr
    assert "SIGABRT" in str(raised)
    again = pickle.loads(pickle.dumps(raised))
    assert (str(again), again.pid, again.stderr) == (str(raised), raised.pid, raised.stderr)
    assert "about to abort" in capfd.readouterr().err


def test_a_crash_can_break_the_pool() -> None:
    with ProcessPoolExecutor(2, on_crash="break") as pool:
        slow = pool.submit(tasks.sleep, 30)
        crashed = pool.submit(tasks.leave, 1)
        for future in (crashed, slow):
            with pytest.raises(BrokenProcessPool):
                future.result(20)
        with pytest.raises(BrokenProcessPool):
            pool.submit(tasks.square, 1)


# Limits, and the end of tasks


def test_a_task_that_takes_too_long_is_ended() -> None:
    with ProcessPoolExecutor(2, timeout=0.3) as pool:
        slow = pool.submit(tasks.sleep, 60)
        with pytest.raises(TimeoutError):
            slow.result(30)
        assert pool.submit(tasks.square, 3).result() == 9
        assert pool.stats().timed_out == 1


def test_a_task_that_runs_can_be_killed(pool: ProcessPoolExecutor) -> None:
    future = pool.submit(tasks.sleep, 60)
    until(future.running)
    assert not future.cancel()
    assert future.cancel(kill=True) and future.cancelled()
    with pytest.raises(tricorne.CancelledError):
        future.result()
    assert pool.submit(tasks.square, 3).result() == 9
    done = pool.submit(tasks.square, 3)
    done.result()
    assert not done.cancel(kill=True)


def test_a_task_that_waits_is_cancelled() -> None:
    with ProcessPoolExecutor(1) as pool:
        running = pool.submit(tasks.sleep, 0.3)
        until(running.running)
        waiting = [pool.submit(tasks.sleep, 60) for _ in range(20)]
        assert all(future.cancel() for future in waiting[5:])
        pool.shutdown(wait=False, cancel_futures=True)
        assert running.result() == 0.3
        assert all(future.cancelled() for future in waiting)
        with pytest.raises(RuntimeError):
            pool.submit(tasks.square, 1)


def test_a_worker_with_too_much_memory_is_killed() -> None:
    with ProcessPoolExecutor(1, max_memory=200 << 20) as pool:
        raised = pool.submit(tasks.hold_memory, 300 << 20).exception(60)
        assert isinstance(raised, tricorne.WorkerCrashed) and raised.cause == "memory_limit"
        assert pool.submit(tasks.square, 3).result() == 9


@pytest.mark.parametrize("how", ["kill_workers", "terminate_workers"])
def test_workers_can_be_ended(how: str) -> None:
    pool = ProcessPoolExecutor(2)
    running = [pool.submit(tasks.sleep, 60) for _ in range(2)]
    until(lambda: all(future.running() for future in running))
    pids = pool.worker_pids()
    waiting = [pool.submit(tasks.sleep, 60) for _ in range(8)]
    getattr(pool, how)()
    assert all(isinstance(future.exception(10), tricorne.WorkerCrashed) for future in running)
    assert any(future.cancelled() for future in waiting)
    assert all(future.done() for future in waiting)
    assert not any(is_there(pid) for pid in pids)


@pytest.mark.parametrize("crash", [False, True])
def test_tasks_are_tried_again(pool: ProcessPoolExecutor, tmp_path: Path, crash: bool) -> None:
    assert pool.with_options(retry=3).submit(tasks.fail_until, str(tmp_path), 2, crash).result(30) == 3
    once = pool.with_options(retry=Retry(attempts=2, on=KeyError))
    assert isinstance(once.submit(tasks.fail, "other").exception(30), ValueError)


def test_a_time_limit_for_some_tasks(pool: ProcessPoolExecutor) -> None:
    limited = pool.with_options(timeout=0.2)
    with pytest.raises(TimeoutError):
        limited.submit(tasks.sleep, 60).result(30)
    assert pool.submit(tasks.sleep, 0.3).result(30) == 0.3


# Start methods


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_context_is_honoured(method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    with ProcessPoolExecutor(2, mp_context=context, initializer=tasks.put_pid, initargs=(queue,)) as pool:
        assert list(pool.map(tasks.square, range(50))) == [number * number for number in range(50)]
        first = queue.get()
        assert first in pool.worker_pids()
        raised = pool.submit(tasks.leave, 3).exception(30)
        assert isinstance(raised, tricorne.WorkerCrashed) and raised.exit_code == 3
        killed = pool.submit(tasks.kill_self).exception(30)
        assert isinstance(killed, tricorne.WorkerCrashed) and killed.signal == signal.SIGKILL
        assert pool.submit(tasks.square, 3).result(30) == 9
        pids = pool.worker_pids()
    assert not any(is_there(pid) for pid in pids)
    if method == "fork":
        with pytest.raises(ValueError):
            ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def test_a_forked_worker_has_what_the_parent_had() -> None:
    tasks.state["inherited"] = "yes"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(tasks.get_state, "inherited").result(30) == "yes"
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(tasks.get_state, "inherited").result(30) is None
    del tasks.state["inherited"]


# Map


def test_map_is_lazy_ordered_and_bounded(pool: ProcessPoolExecutor) -> None:
    pulled = 0

    def inputs() -> Iterator[int]:
        nonlocal pulled
        for number in range(100_000):
            pulled += 1
            yield number

    results = pool.map(tasks.square, inputs())
    assert next(results) == 0
    assert pulled <= 64
    for number in range(1, 2000):
        assert next(results) == number * number
    assert pulled <= 2000 + 16 * 1024
    results.close()  # type: ignore[attr-defined]
    assert list(pool.map(pow, range(10), range(10))) == [number**number for number in range(10)]


def test_a_chunksize_is_obeyed() -> None:
    with ProcessPoolExecutor(2) as pool:
        pids = list(pool.map(tasks.pid, range(100), chunksize=10))
        assert all(len(set(pids[start : start + 10])) == 1 for start in range(0, 100, 10))
        with pytest.raises(ValueError):
            pool.map(tasks.pid, [], chunksize=0)


def test_map_takes_a_function_that_has_no_hash(pool: ProcessPoolExecutor) -> None:
    assert list(pool.map(tasks.Twice(), range(50))) == [2 * value for value in range(50)]


def test_map_options(pool: ProcessPoolExecutor) -> None:
    assert sorted(pool.map(tasks.square, range(100), ordered=False)) == [number * number for number in range(100)]
    mixed = list(pool.map(divmod, [1, 1, 4], [1, 0, 2], return_exceptions=True))
    assert mixed[0] == (1, 0) and isinstance(mixed[1], ZeroDivisionError) and mixed[2] == (2, 0)
    with pytest.raises(TimeoutError):
        list(pool.map(tasks.sleep, [5], timeout=0.05))
    with pytest.raises(ZeroDivisionError):
        list(pool.map(divmod, [1, 1], [1, 0]))


def test_a_crash_within_a_map_costs_one_item(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        count = 400
        results = list(
            pool.map(tasks.touch_or_die, [str(tmp_path)] * count, range(count), [237] * count, return_exceptions=True)
        )
    assert isinstance(results[237], tricorne.WorkerCrashed)
    assert results[:237] + results[238:] == [number for number in range(count) if number != 237]
    assert all((tmp_path / str(number)).read_text() == "x" for number in range(count))


# Around it


def test_it_can_be_awaited(pool: ProcessPoolExecutor) -> None:
    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        return await pool.submit(tasks.square, 5), await loop.run_in_executor(pool, tasks.square, 6)

    assert asyncio.run(main()) == (25, 36)


def test_nested_pools(pool: ProcessPoolExecutor) -> None:
    assert list(pool.map(tasks.nested, [3, 4])) == [5, 14]


def test_inner_threads_and_output() -> None:
    lines: list[OutputLine] = []
    with ProcessPoolExecutor(2, inner_threads=3, stdout=lines.append) as pool:
        if "OMP_NUM_THREADS" not in os.environ:
            assert pool.submit(tasks.environment, "OMP_NUM_THREADS").result() == "3"
        pool.submit(tasks.say, "one\ntwo").result()
        pids = pool.worker_pids()
    assert [line.text for line in lines] == ["one", "two"]
    assert all(line.pid in pids and line.stream == "stdout" for line in lines)


def test_stats(pool: ProcessPoolExecutor) -> None:
    assert pool.stats().workers == 0
    list(pool.map(tasks.square, range(100)))
    until(lambda: pool.stats().completed == 100)
    assert (pool.stats().max_workers, pool.stats().crashed) == (2, 0)


def test_callbacks_may_submit(pool: ProcessPoolExecutor) -> None:
    results: list[int] = []

    def again(future: concurrent.futures.Future[int]) -> None:
        pool.submit(tasks.square, future.result()).add_done_callback(lambda future: results.append(future.result()))

    pool.submit(tasks.square, 3).add_done_callback(again)
    until(lambda: results == [81])


def test_a_dropped_pool_runs_what_was_submitted(tmp_path: Path) -> None:
    futures = [ProcessPoolExecutor(1).submit(tasks.touch, str(tmp_path), number) for number in range(3)]
    assert [future.result(30) for future in futures] == [0, 1, 2]


# Programs

PRELUDE = """
import os, signal, sys, threading, time
import tricorne
from tricorne.futures import ProcessPoolExecutor, ThreadPoolExecutor
"""


def run(tmp_path: Path, program: str, **options: Any) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + textwrap.dedent(program), encoding="utf-8")
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False, **options)


def check(tmp_path: Path, program: str, stdout: str) -> None:
    done = run(tmp_path, program)
    assert (done.returncode, done.stdout, done.stderr) == (0, stdout, "")


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        from dataclasses import dataclass
        print("once", flush=True)
        @dataclass
        class Point:
            x: int
            y: int
        def flip(point):
            return Point(point.y, point.x)
        with ProcessPoolExecutor(2) as pool:
            print(pool.submit(flip, Point(1, 2)).result() == Point(2, 1))
            print(list(pool.map(lambda number: number + 1, range(3))))
        """,
        "once\nTrue\n[1, 2, 3]\n",
    )


def test_pending_tasks_are_run_at_the_end_of_the_program(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        pool = ProcessPoolExecutor(2)
        for _ in range(4):
            pool.submit(lambda: (time.sleep(0.05), os.write(1, b"x")))
        ProcessPoolExecutor(1).submit(os.write, 1, b"d")
        pool.submit(int).add_done_callback(lambda _: os.write(1, b"c"))
        """,
    )
    assert (done.returncode, sorted(done.stdout), done.stderr) == (0, list("cdxxxx"), "")


def test_submitting_at_the_end_of_the_program_is_refused(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        import atexit
        @atexit.register
        def late():
            for executor in (pool, ProcessPoolExecutor(1)):
                try:
                    executor.submit(int)
                except RuntimeError as error:
                    print(error)
        pool = ProcessPoolExecutor(1)
        pool.submit(int).result()
        """,
        "cannot schedule new futures after interpreter shutdown\n" * 2,
    )


def test_no_worker_outlives_a_killed_program(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        PRELUDE
        + textwrap.dedent(
            """
            pool = ProcessPoolExecutor(2)
            list(pool.map(abs, range(10)))
            futures = [pool.submit(time.sleep, 60) for _ in range(4)]
            while not all(future.running() for future in futures[:2]):
                time.sleep(0.01)
            print(*pool.worker_pids(), flush=True)
            time.sleep(60)
            """
        ),
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2 and all(is_there(pid) for pid in pids)
        process.kill()
    until(lambda: not any(is_there(pid) for pid in pids))


@pytest.mark.parametrize("inside", [True, False])
def test_ctrl_c_ends_everything_at_once(tmp_path: Path, inside: bool) -> None:
    block = "with ProcessPoolExecutor(2) as pool:" if inside else "pool = ProcessPoolExecutor(2)\nif True:"
    script = tmp_path / "script.py"
    script.write_text(
        PRELUDE
        + block
        + """
    futures = [pool.submit(time.sleep, 60) for _ in range(6)]
    while not all(future.running() for future in futures[:2]):
        time.sleep(0.01)
    print(*pool.worker_pids(), flush=True)
    list(pool.map(time.sleep, [60] * 10))
""",
        encoding="utf-8",
    )
    late = []
    # On a busy machine one of them may come late for reasons of its own.
    for _ in range(4):
        command = [sys.executable, str(script)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            pids = [int(word) for word in process.stdout.readline().split()]
            sent = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
            late.append(time.monotonic() - sent)
        assert not any(is_there(pid) for pid in pids)
        assert err.count("Traceback") == 1 and err.endswith("KeyboardInterrupt\n"), err
        if late[-1] < 0.5:
            return
    pytest.fail(f"it took {late} seconds")


def test_a_forked_child_has_a_pool_of_its_own(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = ProcessPoolExecutor(1)
        running = pool.submit(time.sleep, 0.5)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            assert pool.submit(abs, -5).result(20) == 5
            try:
                running.result(10)
            except tricorne.BrokenExecutor:
                sys.exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert running.result() is None
        """,
        "",
    )


def test_types_of_futures(pool: ProcessPoolExecutor) -> None:
    future = pool.submit(tasks.square, 2)
    assert type(future) is ProcessFuture
    assert future.exception() is None
    assert not future.running() and future.done()
