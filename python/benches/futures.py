"""Futures, the thread pool and its start, against ``concurrent.futures``."""

import concurrent.futures
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import Bench, Measure, per_call

import tricorne.futures

TASKS = 20_000
ROUND_TRIPS = 2_000
SLEEPS, SLEEPERS, SLEEP_SECS = 1_000, 100, 0.01
IMPLEMENTATIONS: dict[str, Any] = {"tricorne": tricorne.futures, "stdlib": concurrent.futures}


def of_each(make: Callable[[Any], Measure]) -> dict[str, Measure]:
    return {name: make(module) for name, module in IMPLEMENTATIONS.items()}


def task() -> None:
    pass


def life(module: Any) -> Measure:
    return per_call("future = Future(); future.set_result(1); future.result()", Future=module.Future)


def submit(workers: int) -> Callable[[Any], Measure]:
    """Nanoseconds for each task: all are submitted, then all results are taken."""

    def make(module: Any) -> Measure:
        def measure() -> float:
            with module.ThreadPoolExecutor(workers) as pool:
                begin = time.perf_counter()
                for future in [pool.submit(task) for _ in range(TASKS)]:
                    future.result()
                return (time.perf_counter() - begin) / TASKS * 1e9

        return measure

    return make


def pool_map(workers: int) -> Callable[[Any], Measure]:
    def make(module: Any) -> Measure:
        def measure() -> float:
            with module.ThreadPoolExecutor(workers) as pool:
                begin = time.perf_counter()
                for _ in pool.map(abs, range(TASKS)):
                    pass
                return (time.perf_counter() - begin) / TASKS * 1e9

        return measure

    return make


def as_completed(module: Any) -> Measure:
    def measure() -> float:
        with module.ThreadPoolExecutor(2) as pool:
            begin = time.perf_counter()
            for future in module.as_completed([pool.submit(task) for _ in range(TASKS)]):
                future.result()
            return (time.perf_counter() - begin) / TASKS * 1e9

    return measure


def round_trip(module: Any) -> Measure:
    """Microseconds from a submit to its result, the median."""

    def measure() -> float:
        with module.ThreadPoolExecutor(2) as pool:
            took = []
            for _ in range(ROUND_TRIPS):
                begin = time.perf_counter()
                pool.submit(task).result()
                took.append(time.perf_counter() - begin)
        return statistics.median(took) * 1e6

    return measure


def two_wakes() -> float:
    """Microseconds for waking a thread and being woken by it, by two plain locks, the median."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def answer() -> None:
        for _ in range(ROUND_TRIPS):
            there.acquire()
            back.release()

    thread = threading.Thread(target=answer)
    thread.start()
    took = []
    for _ in range(ROUND_TRIPS):
        begin = time.perf_counter()
        there.release()
        back.acquire()
        took.append(time.perf_counter() - begin)
    thread.join()
    return statistics.median(took) * 1e6


def sleeps(module: Any) -> Measure:
    """Milliseconds for a thousand sleeps of 10 ms on a hundred workers."""

    def measure() -> float:
        begin = time.perf_counter()
        with module.ThreadPoolExecutor(SLEEPERS) as pool:
            for future in [pool.submit(time.sleep, SLEEP_SECS) for _ in range(SLEEPS)]:
                future.result()
        return (time.perf_counter() - begin) * 1e3

    return measure


def raw_sleeps() -> float:
    """The same sleeps on plain threads, each with its share."""

    def share() -> None:
        for _ in range(SLEEPS // SLEEPERS):
            time.sleep(SLEEP_SECS)

    begin = time.perf_counter()
    threads = [threading.Thread(target=share) for _ in range(SLEEPERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begin) * 1e3


def start_and_stop(module: Any) -> Measure:
    """Milliseconds for a pool whose hundred workers all have to be there at once."""

    def measure() -> float:
        gate = threading.Lock()

        def pass_gate() -> None:
            with gate:
                pass

        begin = time.perf_counter()
        with gate, module.ThreadPoolExecutor(100) as pool:
            for _ in range(100):
                pool.submit(pass_gate)
            gate.release()
            pool.shutdown()
            gate.acquire()
        return (time.perf_counter() - begin) * 1e3

    return measure


def benches() -> Iterator[Bench]:
    yield Bench("Future life", "ns", of_each(life))
    for workers in (2, 16):
        yield Bench(f"ThreadPoolExecutor submit + result, {workers} workers", "ns", of_each(submit(workers)))
        yield Bench(f"ThreadPoolExecutor map, {workers} workers", "ns", of_each(pool_map(workers)))
    yield Bench("ThreadPoolExecutor as_completed", "ns", of_each(as_completed))
    yield Bench("ThreadPoolExecutor round trip", "us", of_each(round_trip), two_wakes)
    yield Bench("ThreadPoolExecutor 1,000 sleeps of 10 ms, 100 workers", "ms", of_each(sleeps), raw_sleeps)
    yield Bench("ThreadPoolExecutor start and stop, 100 workers", "ms", of_each(start_and_stop))
