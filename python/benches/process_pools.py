"""Process pools: ``python process_pools.py [--rounds N] [NAME]``, NAME being a part of a benchmark's name.

Ours against those of the standard library, loky, joblib, Pebble and mpire, each with its defaults and two workers. Each sample is taken in a
process of its own, the implementations take turns, and the median of the rounds counts. One that is not installed is left out. The floor of
a round trip is the same payload to a bare process and back over a socket pair, measured in the same rounds.
"""

import argparse
import collections
import importlib
import importlib.metadata
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

VERSION = "%d.%d" % sys.version_info[:2]
MIB = 1 << 20
LARGE = 64 * MIB
STANDARD = "concurrent.futures.process"
Sample = dict[str, tuple[float, str]]


# What workers do


def nothing(value: Any = None) -> Any:
    return value


def pages(array: Any) -> int:
    """Read one number of each page, so that all of them are there."""
    return int((array[::512] == 1.0).sum())


_made: list[Any] = []


def make(numbers: int) -> Any:
    """An array that is made once: it is sending that is measured."""
    import numpy

    if not _made:
        _made.append(numpy.ones(numbers))
    return _made[0]


def sleep(secs: float, note: str | None = None) -> None:
    if note is not None:
        Path(note).touch()
    time.sleep(secs)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


# The pools


def open_pool(name: str, workers: int = 2) -> Any:
    from tricorne.testing import pools

    return pools.open_pool(name, workers)


def mapped(name: str, pool: Any, items: Iterable[Any], chunk: int | None = None) -> Iterator[Any]:
    if name == "joblib":
        import joblib

        return iter(joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(nothing)(item) for item in items))
    if chunk is not None and name in ("stdlib", "loky"):
        return iter(pool.inner.map(nothing, items, chunksize=chunk))
    return iter(pool.map(nothing, items))


# What is measured: each returns its figures by name


def round_trip(name: str) -> Sample:
    took = []
    if name == "floor":
        payload = bytes(64)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            here.close()
            while data := there.recv(256):
                there.send(data)
            os._exit(0)
        there.close()
        for _ in range(3_000):
            begun = time.perf_counter()
            here.send(payload)
            here.recv(256)
            took.append(time.perf_counter() - begun)
    else:
        with open_pool(name, 1) as pool:
            for _ in range(3_000):
                begun = time.perf_counter()
                pool.submit(nothing, 1).result()
                took.append(time.perf_counter() - begun)
    took = sorted(took[500:])
    return {
        "process round trip p50": (took[len(took) // 2] * 1e6, "us"),
        "process round trip p99": (took[len(took) * 99 // 100] * 1e6, "us"),
    }


def submit(name: str) -> Sample:
    tasks = 20_000 if name == "tricorne" else 5_000
    with open_pool(name) as pool:
        for future in [pool.submit(nothing, 1) for _ in range(1_000)]:
            future.result()
        begun = time.perf_counter()
        for future in [pool.submit(nothing, 1) for _ in range(tasks)]:
            future.result()
        took = time.perf_counter() - begun
    return {"process submit + result": (tasks / took, "tasks/s")}


def default_map(name: str) -> Sample:
    tasks = {"tricorne": 200_000, "joblib": 100_000}.get(name, 10_000)
    with contextless(name) as pool:
        collections.deque(mapped(name, pool, range(1_000)), maxlen=0)
        begun = time.perf_counter()
        total = sum(mapped(name, pool, range(tasks)))
        took = time.perf_counter() - begun
        if total != tasks * (tasks - 1) // 2:
            raise SystemExit("a result is wrong")
    return {"process map, default": (tasks / took, "tasks/s")}


class contextless:
    """A pool; joblib has one of its own."""

    def __init__(self, name: str) -> None:
        self.pool = None if name == "joblib" else open_pool(name)

    def __enter__(self) -> Any:
        return self.pool

    def __exit__(self, *raised: Any) -> None:
        if self.pool is not None:
            self.pool.__exit__(*raised)


def large_arrays(name: str) -> Sample:
    import numpy

    array = numpy.ones(LARGE // 8)
    times = 6 if name == "tricorne" else 2
    figures: Sample = {}
    if name == "joblib":
        import joblib

        def into() -> None:
            joblib.Parallel(n_jobs=2)([joblib.delayed(pages)(array)])

        def out() -> None:
            pages(joblib.Parallel(n_jobs=2)([joblib.delayed(make)(len(array))])[0])

        pool = None
    else:
        pool = open_pool(name, 1)

        def into() -> None:
            pool.submit(pages, array).result()

        def out() -> None:
            pages(pool.submit(make, len(array)).result())

    for bench, work in (("process 64 MiB numpy in", into), ("process 64 MiB numpy out", out)):
        for _ in range(3 if name == "tricorne" else 1):
            work()
        begun = time.perf_counter()
        for _ in range(times):
            work()
        figures[bench] = (times * 64 / (time.perf_counter() - begun), "MiB/s")
    if pool is not None:
        pool.shutdown()
    return figures


def start(name: str) -> Sample:
    # What is imported by the first pool is not the pool's fault.
    modules = {"tricorne": "tricorne.futures", "stdlib": STANDARD, "stdlib forkserver": STANDARD}
    importlib.import_module(modules.get(name, name))
    if name == "stdlib forkserver":
        import concurrent.futures
        import multiprocessing

        begun = time.perf_counter()
        with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as forkserver:
            forkserver.submit(abs, 1).result()
            took = time.perf_counter() - begun
    else:
        begun = time.perf_counter()
        with open_pool(name) as pool:
            pool.submit(abs, 1).result()
            took = time.perf_counter() - begun
    return {"process start to first result": (took * 1e3, "ms")}


def tenth_worker(name: str) -> Sample:
    note = Path(f"{os.environ['TMPDIR']}/busy")
    with open_pool(name, 10) as pool:
        pool.submit(abs, 1).result()
        for item in range(9):
            pool.submit(sleep, 1.0, f"{note}-{item}")
        end = time.monotonic() + 5
        while len(list(note.parent.glob("busy-*"))) < 9:
            if time.monotonic() > end:
                raise SystemExit("nine tasks do not run at once")
            time.sleep(0.001)
        begun = time.perf_counter()
        pool.submit(abs, 1).result()
        took = time.perf_counter() - begun
    return {"process tenth worker": (took * 1e3, "ms")}


def crash(name: str) -> Sample:
    """One worker; where the pool is dead after a crash, the next result needs a new one."""
    pool = open_pool(name, 1)
    pool.submit(abs, 1).result()
    begun = time.perf_counter()
    crashed = pool.submit(die)
    if name in ("stdlib", "loky"):
        try:
            crashed.result()
        except Exception:
            pool.shutdown()
            pool = open_pool(name, 1)
    pool.submit(abs, 1).result()
    took = time.perf_counter() - begun
    pool.shutdown()
    return {"process crash to next result": (took * 1e3, "ms")}


def map_memory(name: str) -> Sample:
    """The most memory of this process while it maps a million items, above what it had before."""
    with contextless(name) as pool:
        collections.deque(mapped(name, pool, range(1_000)), maxlen=0)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        collections.deque(mapped(name, pool, range(1_000_000), chunk=64), maxlen=0)
        return {"process map of a million, peak memory": ((status("VmHWM") - before) / 1024, "MiB")}


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise SystemExit(f"no {field}")


ALL = ("tricorne", "stdlib", "loky", "joblib", "pebble", "mpire")
WITHOUT_JOBLIB = tuple(name for name in ALL if name != "joblib")
BENCHES: dict[str, tuple[Callable[[str], Sample], tuple[str, ...]]] = {
    "round trip": (round_trip, (*WITHOUT_JOBLIB, "floor")),
    "submit": (submit, WITHOUT_JOBLIB),
    "map, default": (default_map, ALL),
    "numpy": (large_arrays, ALL),
    "start": (start, (*WITHOUT_JOBLIB, "stdlib forkserver")),
    "tenth worker": (tenth_worker, ("tricorne", "stdlib", "loky", "pebble", "mpire")),
    "crash": (crash, ("tricorne", "stdlib", "loky", "pebble")),
    # The others take minutes for it.
    "memory": (map_memory, ("tricorne", "stdlib", "joblib")),
}


def is_there(name: str) -> bool:
    if name in ("floor", "stdlib", "stdlib forkserver"):
        return True
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def sample(bench: str, name: str) -> Sample | None:
    """One sample in a process of its own; None, and a remark, if it fails."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, __file__, "--sample", bench, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
            text=True,
        )
        try:
            out, err = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            out, err = "", "no end after 180 s"
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    line = out.strip().splitlines()[-1:] or [""]
    if process.returncode != 0 or not line[0].startswith("{"):
        print(f"{bench}: {name} failed: {(err.strip().splitlines() or ['no output'])[-1]}", file=sys.stderr)
        return None
    return {key: (value, unit) for key, (value, unit) in json.loads(line[0]).items()}


def run(bench: str, rounds: int) -> None:
    """Take the samples of one benchmark and print its figures."""
    order = [name for name in BENCHES[bench][1] if is_there(name)]
    figures: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    units: dict[str, str] = {}
    for _ in range(rounds):
        for name in list(order):
            taken = sample(bench, name)
            if taken is None:
                order.remove(name)
                continue
            for key, (value, unit) in taken.items():
                figures[key, name].append(value)
                units[key] = unit
        # Nobody is always the first after somebody else.
        order.append(order.pop(0))
    for (key, name), values in figures.items():
        if name == "floor":
            continue
        floor = figures.get((key, "floor"))
        line = {
            "bench": f"{key} ({VERSION})",
            "impl": name,
            "value": round(statistics.median(values), 3),
            "unit": units[key],
            "rounds": len(values),
            "floor": round(statistics.median(floor), 3) if floor else None,
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="", help="only benchmarks whose name contains this")
    parser.add_argument("--rounds", type=int, default=5, help="how many samples of each implementation")
    parser.add_argument("--sample", nargs=2, metavar=("BENCH", "IMPL"), help="take one sample in this process")
    options = parser.parse_args()
    if options.sample is not None:
        bench, name = options.sample
        print(json.dumps(BENCHES[bench][0](name)), flush=True)
        return
    for bench in BENCHES:
        if options.name in bench:
            run(bench, options.rounds)


if __name__ == "__main__":
    # Workers import the tasks by the name of this file, so that no pool has to send them by value.
    sys.path.insert(0, str(Path(__file__).parent))
    import process_pools

    process_pools.main()
