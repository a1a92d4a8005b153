"""The queues against the standard library's: put + get in one thread, flows between threads, round trips."""

import queue as standard
from collections.abc import Callable, Iterator
from typing import Any

from harness import Bench, Measure, per_call
from primitives import HAND_OVERS, timed, turns, two_wakes

from tricorne import queue as ours

IMPLEMENTATIONS: dict[str, Any] = {"tricorne": ours, "stdlib": standard}
# Enough that the threads take turns many times and their start does not count.
ITEMS = 200_000


def of_each(make: Callable[[Any], Measure]) -> dict[str, Measure]:
    return {name: make(module) for name, module in IMPLEMENTATIONS.items()}


def put_get(cls: str) -> Callable[[Any], Measure]:
    def make(module: Any) -> Measure:
        queue = getattr(module, cls)()
        return per_call("put(1); get()", put=queue.put, get=queue.get)

    return make


def flow(pairs: int, maxsize: int) -> Callable[[Any], Measure]:
    """Nanoseconds for each item that so many producers hand to as many consumers."""

    def make(module: Any) -> Measure:
        def measure() -> float:
            queue = module.Queue(maxsize)

            def produce() -> None:
                for _ in range(ITEMS // pairs):
                    queue.put(1)

            def consume() -> None:
                for _ in range(ITEMS // pairs):
                    queue.get()

            return timed([produce, consume] * pairs) / ITEMS * 1e9

        return measure

    return make


def round_trip(module: Any) -> Measure:
    def measure() -> float:
        there, back = module.Queue(), module.Queue()

        def ask() -> None:
            for _ in range(HAND_OVERS):
                there.put(1)
                back.get()

        def answer() -> None:
            for _ in range(HAND_OVERS):
                there.get()
                back.put(1)

        return turns([ask, answer])

    return measure


def benches() -> Iterator[Bench]:
    for cls in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"):
        yield Bench(f"{cls} put + get", "ns", of_each(put_get(cls)))
    for pairs in (1, 4):
        for maxsize in (0, 100):
            bound = f", maxsize {maxsize}" if maxsize else ""
            yield Bench(f"Queue {pairs}:{pairs} threads{bound}", "ns", of_each(flow(pairs, maxsize)))
    yield Bench("Queue round trip", "us", of_each(round_trip), two_wakes)
