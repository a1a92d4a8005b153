"""How the Python benchmarks measure: implementations take turns, and the median of the rounds counts.

A benchmark is a name, a unit, and one function for each implementation that does the work once and returns the figure. A floor is measured
in the same rounds. One line of JSON comes out for each implementation, as `cargo xtask bench` reads it.
"""

import json
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Measure = Callable[[], float]

VERSION = "%d.%d" % sys.version_info[:2]


@dataclass
class Bench:
    """One scenario."""

    name: str
    unit: str
    implementations: dict[str, Measure]
    floor: Measure | None = None


def per_call(statement: str, **names: object) -> Measure:
    """Nanoseconds of CPU for one statement in one thread, the best of a few short runs. (On a busy machine the wall clock runs on.)"""
    timer = timeit.Timer(statement, timer=time.thread_time, globals=names)
    number = max(1, int(timer.autorange()[0] / 10))
    return lambda: min(timer.repeat(repeat=5, number=number)) / number * 1e9


def run(benches: Iterable[Bench], rounds: int, only: str | None) -> None:
    """Measures them and prints the figures."""
    for bench in benches:
        if only is not None and only not in bench.name:
            continue
        contenders = dict(bench.implementations)
        if bench.floor is not None:
            contenders["floor"] = bench.floor
        figures: dict[str, list[float]] = {name: [] for name in contenders}
        order = list(contenders)
        for _ in range(rounds):
            for name in order:
                figures[name].append(contenders[name]())
            # Nobody is always the first after somebody else.
            order.append(order.pop(0))
        medians = {name: statistics.median(values) for name, values in figures.items()}
        floor = medians.pop("floor", None)
        for name, value in medians.items():
            line = {
                "bench": f"{bench.name} ({VERSION})",
                "impl": name,
                "value": round(value, 3),
                "unit": bench.unit,
                "rounds": rounds,
                "floor": None if floor is None else round(floor, 3),
            }
            print(json.dumps(line), flush=True)
