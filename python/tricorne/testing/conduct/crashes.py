"""A worker dies."""

import contextlib
import os
import signal
import time
from concurrent.futures import BrokenExecutor

from tricorne.testing import counters
from tricorne.testing.conduct import tasks
from tricorne.testing.conduct.check import Failed, Subject, check, expect, fail, outcome, usable
from tricorne.testing.pools import Pool
from tricorne.testing.processes import is_running

GROUP = "A worker dies"


def _one_of_a_hundred(subject: Subject, how: str) -> str:
    path = subject.folder / "counters"
    counters.make(path, 100)
    with subject.open() as pool:
        usable(pool)
        futures = []
        for item in range(100):
            try:
                futures.append(pool.submit(tasks.counted, str(path), item, 37, how))
            except BrokenExecutor:
                break
        ended = [outcome(future) for future in futures]
        kept = sum(value == item and raised is None for item, (value, raised) in enumerate(ended))
        doubled = counters.above_one(counters.read(path))
        said = f"{kept} of 99 other results kept, {doubled} run twice"
        expect(kept == 99 and doubled == 0, said)
        expect(ended[37][1] is not None, "the task that killed its process has a result")
        usable(pool)
    return said


@check(GROUP, "One task of 100 aborts: 99 results, each item run once, the pool goes on.")
def abort_spares_the_rest(subject: Subject) -> str:
    return _one_of_a_hundred(subject, "abort")


@check(GROUP, "One task of 100 is killed by SIGKILL: the same.")
def kill_spares_the_rest(subject: Subject) -> str:
    return _one_of_a_hundred(subject, "kill")


@check(GROUP, "A task calls `os._exit(0)`: that is a crash, too, and not a result that never comes.")
def exit_zero_is_a_crash(subject: Subject) -> str:
    return _one_of_a_hundred(subject, "exit")


@check(GROUP, "The error of the lost task names the process and the signal.")
def crash_names_the_process(subject: Subject) -> str:
    path = subject.folder / "pid"
    with subject.open() as pool:
        _, raised = outcome(pool.submit(tasks.note_pid_and_end, str(path)))
        expect(raised is not None, "no error")
        text = f"{raised} {raised!r}"
        expect(path.read_text(encoding="ascii") in text, f"does not name the process: {str(raised)[:90]}")
        expect("SIGKILL" in text or "signal 9" in text or "-9" in text, f"does not name the signal: {str(raised)[:90]}")
    return str(raised)[:110]


@check(GROUP, "The error is a `BrokenExecutor`, which callers already catch.")
def crash_is_a_standard_error(subject: Subject) -> str:
    with subject.open() as pool:
        _, raised = outcome(pool.submit(tasks.end, "kill"))
    expect(isinstance(raised, BrokenExecutor), f"is {type(raised).__name__}")
    return type(raised).__name__


@check(GROUP, "The error quotes what the worker last wrote to stderr.")
def crash_quotes_last_words(subject: Subject) -> str:
    with subject.open() as pool:
        _, raised = outcome(pool.submit(tasks.last_words, "the model file is cut off"))
    said = f"{raised} {getattr(raised, 'stderr', '')}"
    expect("the model file is cut off" in said, "only the stderr of the program has it")
    return "quoted"


@check(GROUP, "A worker that is killed while it has nothing to do costs nothing.")
def killed_while_idle(subject: Subject) -> str:
    with subject.open(1) as pool:
        pid, _ = outcome(pool.submit(tasks.pid))
        os.kill(pid, signal.SIGKILL)
        _gone(pid)
        for _ in range(3):
            _, raised = outcome(pool.submit(abs, -1))
            expect(raised is None, f"the next task fails: {type(raised).__name__}")
    return "the next task has its result"


def _gone(pid: int) -> None:
    end = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.005)


@check(GROUP, "All workers are killed at once: what was not running is run.")
def all_workers_killed(subject: Subject) -> str:
    path = subject.folder / "counters"
    counters.make(path, 40)
    with subject.open() as pool:
        pids = _pids(pool)
        futures = [pool.submit(tasks.sleep_counted, str(path), item, 0.03) for item in range(40)]
        time.sleep(0.1)
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        ended = [outcome(future) for future in futures]
        lost = sum(raised is not None for _, raised in ended)
        doubled = counters.above_one(counters.read(path))
        expect(lost <= 2 and doubled == 0, f"{lost} of 40 tasks lost with 2 workers, {doubled} run twice")
        usable(pool)
    return f"{lost} lost with 2 workers, none run twice"


def _pids(pool: Pool, workers: int = 2) -> set[int]:
    found: set[int] = set()
    end = time.monotonic() + 10
    while len(found) < workers and time.monotonic() < end:
        futures = [pool.submit(tasks.sleep, 0.05) for _ in range(workers)]
        found.update(outcome(pool.submit(tasks.pid))[0] for _ in range(workers))
        for future in futures:
            outcome(future)
    return found


@check(GROUP, "A worker is killed while it sends 256 MiB: the others' results still come.")
def killed_while_sending(subject: Subject) -> str:
    with subject.open() as pool:
        usable(pool)
        bad = pool.submit(tasks.kill_soon_and_return, 256)
        others = []
        for item in range(20):
            try:
                others.append(pool.submit(tasks.sleep, 0.01))
            except BrokenExecutor:
                fail(f"the pool is dead after {item} of 20 submits")
        lost = sum(outcome(future)[1] is not None for future in others)
        expect(lost == 0, f"{lost} of 20 other tasks lost")
        outcome(bad)
        usable(pool)
    return "all 20 others kept"


@check(GROUP, "Unpickling an argument kills the worker: that task fails, nothing hangs.")
def argument_that_kills(subject: Subject) -> str:
    with subject.open() as pool:
        usable(pool)
        _, raised = outcome(pool.submit(tasks.echo, tasks.EndsWhenUnpickled()))
        expect(raised is not None, "no error")
        usable(pool)
    return type(raised).__name__


@check(GROUP, "Pickling a result kills the worker: that task fails, nothing hangs.")
def result_that_kills(subject: Subject) -> str:
    with subject.open() as pool:
        usable(pool)
        _, raised = outcome(pool.submit(tasks.result_that_kills))
        expect(raised is not None, "no error")
        usable(pool)
    return type(raised).__name__


@check(GROUP, "`shutdown(wait=True)` while a worker crashes returns, and every future has an outcome.")
def shutdown_during_a_crash(subject: Subject) -> str:
    begun = time.monotonic()
    rounds = 5
    for _ in range(rounds):
        pool = subject.open()
        futures = [pool.submit(tasks.end, "abort") if item == 3 else pool.submit(abs, item) for item in range(8)]
        pool.shutdown(wait=True)
        lost = sum(outcome(future)[1] is not None for item, future in enumerate(futures) if item != 3)
        expect(lost == 0, f"{lost} of 7 other tasks lost")
    return f"{rounds} times in {time.monotonic() - begun:.1f} s"


def _shut_down(pool: Pool) -> None:
    # Some pools raise here what the initializer has raised.
    with contextlib.suppress(Exception):
        pool.shutdown()


@check(GROUP, "An initializer that raises fails the tasks at once, and the error says why.")
def initializer_raises(subject: Subject) -> str:
    pool = subject.open(initializer=tasks.fail, initargs=("no such model",))
    try:
        _, raised = outcome(pool.submit(abs, -1))
    except Failed:
        raise
    except BaseException as refused:
        raised = refused
    expect(raised is not None, "the task has a result")
    said = f"{raised} {getattr(raised, '__cause__', '')}"
    _shut_down(pool)
    expect("no such model" in said, f"does not say why: {str(raised)[:90]}")
    return str(raised)[:110]


@check(GROUP, "An initializer that ends its process fails the tasks; nothing hangs and nothing restarts for ever.")
def initializer_crashes(subject: Subject) -> str:
    pool = subject.open(initializer=tasks.exit_in_initializer)
    try:
        _, raised = outcome(pool.submit(abs, -1))
    except Failed:
        raise
    except BaseException as refused:
        raised = refused
    expect(raised is not None, "the task has a result")
    _shut_down(pool)
    return f"{type(raised).__name__}: {str(raised)[:90]}"


@check(GROUP, "A worker above its memory limit is ended, its task fails, and the others do not.")
def memory_limit(subject: Subject) -> str:
    with subject.open(max_memory=200 << 20) as pool:
        usable(pool)
        future = pool.submit(tasks.take_memory, 600)
        others = [pool.submit(tasks.sleep, 0.01) for _ in range(20)]
        _, raised = outcome(future)
        expect(raised is not None, "600 MiB were allowed with a limit of 200")
        lost = sum(outcome(other)[1] is not None for other in others)
        expect(lost == 0, f"{lost} of 20 other tasks lost")
        usable(pool)
    return str(raised)[:110]


@check(GROUP, "Workers are replaced after so many tasks, without a hang.")
def tasks_per_worker(subject: Subject) -> str:
    with subject.open(max_tasks=2) as pool:
        pids = [outcome(future)[0] for future in [pool.submit(tasks.pid) for _ in range(20)]]
    most = max(pids.count(pid) for pid in pids)
    expect(most <= 2, f"one worker had {most} tasks with a limit of 2")
    return f"20 tasks in {len(set(pids))} processes"
