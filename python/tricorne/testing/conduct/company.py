"""With threads, event loops, forks and other pools; maps; and tasks that take too long."""

import asyncio
import concurrent.futures
import itertools
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tricorne.testing import counters
from tricorne.testing.conduct import tasks
from tricorne.testing.conduct.check import PATIENCE, Subject, check, expect, outcome, usable
from tricorne.testing.pools import NotOffered

TIME = "Tasks that take too long"
MAP = "Maps"
COMPANY = "With threads, event loops and other pools"


@check(TIME, "A time-out ends the task that runs; the pool and the other tasks go on.")
def time_out_kills(subject: Subject) -> str:
    with subject.open(timeout=0.5) as pool:
        usable(pool)
        begun = time.monotonic()
        slow = pool.submit(tasks.compute, 10.0)
        others = [pool.submit(tasks.sleep, 0.01) for _ in range(20)]
        _, raised = outcome(slow)
        took = time.monotonic() - begun
        expect(raised is not None, "it ran for 10 s")
        expect(took < 6, f"took {took:.1f} s")
        lost = sum(outcome(other)[1] is not None for other in others)
        expect(lost == 0, f"{lost} of 20 other tasks lost")
        usable(pool)
    return f"{type(raised).__name__} after {took:.2f} s"


@check(TIME, "A task that runs can be cancelled; its worker ends, the pool goes on.")
def cancel_running(subject: Subject) -> str:
    path = subject.folder / "running"
    with subject.open() as pool:
        usable(pool)
        future = pool.submit(tasks.note_pid_and_sleep, str(path), 10.0)
        end = time.monotonic() + PATIENCE
        while not path.exists():
            expect(time.monotonic() < end, "the task does not begin")
            time.sleep(0.005)
        begun = time.monotonic()
        expect(pool.cancel_running(future), "cancel says no")
        pool.submit(abs, -1).result(timeout=PATIENCE)
        usable(pool)
    took = time.monotonic() - begun
    expect(took < 6, f"took {took:.1f} s: it ran to its end")
    return f"{took:.2f} s until the pool was done"


@check(TIME, "A task that waits can be cancelled, and is not run.")
def cancel_waiting(subject: Subject) -> str:
    path = subject.folder / "counters"
    counters.make(path, 100)
    with subject.open(1) as pool:
        pool.submit(tasks.sleep, 0.3)
        futures = [pool.submit(tasks.sleep_counted, str(path), item, 0.01) for item in range(50)]
        if not hasattr(futures[-1], "cancel"):
            raise NotOffered("its results cannot be cancelled")
        expect(futures[-1].cancel(), "cancel says no")
    expect(counters.read(path)[49] == 0, "it was run all the same")
    return "not run"


@check(TIME, "`shutdown(cancel_futures=True)` waits only for what runs.")
def shutdown_cancels(subject: Subject) -> str:
    pool = subject.open()
    usable(pool)
    futures = [pool.submit(tasks.sleep, 0.2) for _ in range(100)]
    begun = time.monotonic()
    pool.shutdown(cancel=True)
    took = time.monotonic() - begun
    expect(took < 5, f"took {took:.1f} s")
    cancelled = sum(future.cancelled() for future in futures)
    expect(cancelled >= 50, f"{cancelled} of 100 were cancelled")
    expect(all(future.done() for future in futures), "some futures have no outcome")
    return f"{cancelled} of 100 cancelled in {took:.2f} s"


@check(MAP, "`map` over 50,000 items of a generator gives its first result without reading it whole.", limit=60)
def map_is_lazy(subject: Subject) -> str:
    pulled = 0

    def items() -> Iterator[int]:
        nonlocal pulled
        for number in range(50_000):
            pulled += 1
            yield number

    with subject.open() as pool:
        results = pool.map(abs, items())
        expect(next(results) == 0, "another result")
        ahead = pulled
        if hasattr(results, "close"):
            results.close()
        del results
        expect(ahead < 25_000, f"{ahead} items were read before the first result")
        os._exit(_said(f"{ahead} items read before the first result"))
    return ""


def _said(evidence: str) -> int:
    """The pool would first have to run the rest: say so, and leave."""
    print(f'{{"result": "pass", "evidence": "{evidence}"}}', flush=True)
    return 0


@check(MAP, "An input that raises ends the map with that error, and no hang.")
def map_input_raises(subject: Subject) -> str:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more lines")

    with subject.open() as pool:
        try:
            list(pool.map(abs, items()))
        except LookupError:
            pass
        except Exception as raised:
            expect(False, f"{type(raised).__name__} instead")
        else:
            expect(False, "the error is lost")
        usable(pool)
    return "LookupError"


@check(MAP, "A map that is dropped after its first result does not hold up the end of the pool.")
def map_dropped(subject: Subject) -> str:
    begun = time.monotonic()
    with subject.open() as pool:
        results = pool.map(tasks.sleep, itertools.repeat(0.05, 400))
        expect(next(results) == 0.05, "another result")
        if hasattr(results, "close"):
            results.close()
        del results
    took = time.monotonic() - begun
    expect(took < 6, f"the pool ended after {took:.1f} s")
    return f"the pool ended after {took:.2f} s"


@check(COMPANY, "A task can have a pool of its own.")
def nested_pools(subject: Subject) -> str:
    with subject.open() as pool:
        value, raised = outcome(pool.submit(tasks.nested, subject.name, -5))
    expect(value == 5, f"{type(raised).__name__}: {raised}"[:100])
    return "works"


@check(COMPANY, "A worker that starts while another thread here holds a lock does not inherit it held.", limit=25)
def locks_are_not_inherited(subject: Subject) -> str:
    with tasks.LOCK:
        pool = subject.open()
        value, _ = outcome(pool.submit(tasks.take_lock), 6)
        expect(value == 1, "the task failed")
    pool.shutdown()
    return "the worker's lock is free"


@check(COMPANY, "A pool that was made in a thread lives on when that thread ends.")
def made_in_a_thread(subject: Subject) -> str:
    made: list[Any] = []

    def make() -> None:
        made.append(subject.open())
        usable(made[0])

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    time.sleep(0.2)
    expect(made, "it could not be made there")
    for _ in range(20):
        usable(made[0])
    made[0].shutdown()
    return "20 more tasks"


@check(COMPANY, "Eight threads submit at once.")
def many_threads_submit(subject: Subject) -> str:
    wrong: list[object] = []
    with subject.open() as pool:

        def work(first: int) -> None:
            try:
                for item in range(first, first + 50):
                    value, raised = outcome(pool.submit(tasks.echo, item))
                    if value != item:
                        wrong.append(raised)
            except BaseException as raised:
                wrong.append(raised)

        threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expect(not wrong, f"{len(wrong)} wrong results: {wrong[:1]!r}"[:100])
    return "400 right results"


@check(COMPANY, "A copy of this process by `os.fork` can make a pool, and does not harm this one's.")
def forked_copy(subject: Subject) -> str:
    with subject.open() as pool:
        usable(pool)
        child = os.fork()
        if child == 0:
            try:
                with subject.open() as other:
                    os._exit(0 if other.submit(abs, -3).result(PATIENCE) == 3 else 1)
            finally:
                os._exit(2)
        end = time.monotonic() + 15
        ended = (0, 0)
        while ended[0] == 0 and time.monotonic() < end:
            ended = os.waitpid(child, os.WNOHANG)
            time.sleep(0.01)
        expect(ended[0] == child, "the copy hangs")
        expect(os.waitstatus_to_exitcode(ended[1]) == 0, "the copy's pool fails")
        usable(pool)
    return "both pools work"


@check(COMPANY, "A callback of a future submits the next task.")
def submit_in_a_callback(subject: Subject) -> str:
    done = threading.Event()
    with subject.open() as pool:
        left = 20

        def again(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done.set()
            else:
                pool.submit(abs, -left).add_done_callback(again)

        first = pool.submit(abs, -1)
        if not hasattr(first, "add_done_callback"):
            raise NotOffered("its results have no callbacks")
        first.add_done_callback(again)
        expect(done.wait(PATIENCE), f"stopped with {left} of 20 to go")
    return "20 in a row"


@check(COMPANY, "`concurrent.futures.wait` and `as_completed` take its futures.")
def standard_waiting(subject: Subject) -> str:
    with subject.open() as pool:
        futures = [pool.submit(abs, -item) for item in range(20)]
        if not isinstance(futures[0], concurrent.futures.Future):
            raise NotOffered("its results are not futures")
        done, left = concurrent.futures.wait(futures, PATIENCE)
        expect(len(done) == 20 and not left, "wait does not end")
        values = sorted(future.result() for future in concurrent.futures.as_completed(futures, PATIENCE))
        expect(values == list(range(20)), "other results")
    return "both"


@check(COMPANY, "24 workers start, work and end.", limit=60)
def many_workers(subject: Subject) -> str:
    begun = time.monotonic()
    with subject.open(24) as pool:
        for future in [pool.submit(tasks.sleep, 0.05) for _ in range(48)]:
            expect(outcome(future, 30)[1] is None, "a task failed")
    return f"{time.monotonic() - begun:.1f} s"


@check(COMPANY, "Workers times inner threads of native libraries are not more than the cores.")
def inner_threads_are_limited(subject: Subject) -> str:
    cores = len(os.sched_getaffinity(0))
    with subject.open(cores) as pool:
        told, _ = outcome(pool.submit(tasks.inner_threads))
    expect(told is not None and told.isdigit(), "OMP_NUM_THREADS is not set in workers")
    expect(int(told) * cores <= max(cores, 1), f"{cores} workers with {told} threads each on {cores} cores")
    return f"OMP_NUM_THREADS={told} with {cores} workers on {cores} cores"


BEAT = 0.001


async def _beats(end: asyncio.Future[Any]) -> float:
    """The gap between two turns of the loop that 99 of 100 stay below, in milliseconds."""
    gaps = []
    last = time.monotonic()
    while not end.done():
        await asyncio.sleep(BEAT)
        now = time.monotonic()
        gaps.append((now - last) * 1e3)
        last = now
    return statistics.quantiles(gaps, n=100)[98]


@check(COMPANY, "Results are awaited while two workers compute: 99 of 100 gaps of the event loop are below 10 ms.", attempts=3)
def heart_beat(subject: Subject) -> str:
    """On a machine where two bare processes that compute disturb the loop as much, it is not the pool that is late."""

    async def with_pool() -> float:
        with subject.open() as pool:
            first = [pool.submit(tasks.pid) for _ in range(4)]
            if not isinstance(first[0], concurrent.futures.Future):
                raise NotOffered("its results cannot be awaited")
            for future in first:
                outcome(future)
            loop = asyncio.get_running_loop()
            working = True

            async def work() -> None:
                while working:
                    await asyncio.wrap_future(pool.submit(tasks.compute, 0.02))

            workers = [asyncio.ensure_future(work()) for _ in range(2)]
            end: asyncio.Future[Any] = loop.create_future()
            loop.call_later(1.5, end.set_result, None)
            gap = await _beats(end)
            working = False
            await asyncio.gather(*workers)
        return gap

    async def bare() -> float:
        program = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
        busy = [subprocess.Popen([sys.executable, "-S", "-c", program]) for _ in range(2)]
        end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.2, end.set_result, None)
        gap = await _beats(end)
        for process in busy:
            process.wait()
        return gap

    own = asyncio.run(with_pool())
    floor = asyncio.run(bare())
    said = f"p99 {own:.1f} ms (two bare processes: {floor:.1f} ms)"
    expect(own < max(10.0, 1.5 * floor), said)
    return said
