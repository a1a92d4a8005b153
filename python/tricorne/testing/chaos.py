"""``python -m tricorne.testing.chaos``: a pool works while a killer sends SIGKILL to random workers.

Each task adds one to a counter of its own in a file that outlives every process, computes for a moment, and returns its number. The killer
picks a worker among those that have said that they are there. At the end it prints

- ``kills``: signals that were sent to a worker that was there,
- ``done``: tasks with their right result, ``wrong``: with another one,
- ``lost``: tasks that failed; at most one for each kill may,
- ``unfinished``: tasks whose future has no outcome in time; none may be,
- ``doubled``: tasks that were run more than once; none may be,
- descriptors and resident memory of this process before and after, and how many processes are left in the end.

Exit code: 0 if all of that holds, 1 if not, 2 if the implementation is not installed.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import gc
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from tricorne.testing import counters, processes
from tricorne.testing.pools import IMPLEMENTATIONS, Pool, open_pool

__all__ = ["Report", "run"]

WINDOW = 2_000
"""The most tasks that are under way at once."""
PATIENCE = 15.0
"""Seconds without any result after which none comes."""
MEMORY_GROWTH = 48 << 20
"""Bytes that this process may have more in the end."""

_told = False


def task(counts: str, pids: str, item: int, secs: float) -> int:
    """What workers do."""
    global _told
    if not _told:
        _told = True
        with open(pids, "a", encoding="ascii") as file:
            file.write(f"{os.getpid()} {processes.started(os.getpid())}\n")
    counters.count(counts, item)
    end = time.perf_counter() + secs
    while time.perf_counter() < end:
        pass
    return item


class Report(NamedTuple):
    """What came of it."""

    impl: str
    tasks: int
    kills: int
    done: int
    wrong: int
    lost: int
    unfinished: int
    doubled: int
    descriptors_before: int
    descriptors_after: int
    memory_before: int
    memory_after: int
    left: int
    secs: float
    seed: int

    def passed(self) -> bool:
        """Whether a crash has cost one task at most, and nothing else."""
        right = self.wrong == self.unfinished == self.doubled == self.left == 0
        complete = self.done + self.lost == self.tasks and self.lost <= self.kills
        level = self.descriptors_after <= self.descriptors_before + 4
        return right and complete and level and self.memory_after - self.memory_before < MEMORY_GROWTH


class Killer(threading.Thread):
    """Kills one worker after the other."""

    def __init__(self, pids: Path, every_secs: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.pids = pids
        self.every_secs = every_secs
        self.random = random.Random(seed)
        self.ended = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self.ended.wait(self.random.uniform(0, 2 * self.every_secs)):
            # Its start tells a worker from another process that has got its number since.
            there = []
            for line in self.pids.read_text(encoding="ascii").splitlines()[-50:]:
                pid, _, started = line.partition(" ")
                if started.isdigit() and processes.started(int(pid)) == int(started):
                    there.append(int(pid))
            if there:
                # It may have ended in this moment: by the kill before.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.random.choice(there), signal.SIGKILL)
                    self.kills += 1


def _collect(futures: collections.deque[tuple[int, Any]], down_to: int, tally: collections.Counter[str]) -> None:
    while len(futures) > down_to:
        item, future = futures.popleft()
        try:
            tally["done" if future.result(timeout=PATIENCE) == item else "wrong"] += 1
        except (TimeoutError, concurrent.futures.TimeoutError):
            tally["unfinished"] += 1
        except Exception:
            tally["lost"] += 1


def _work(pool: Pool, paths: tuple[str, str], items: range, secs: float, tally: collections.Counter[str]) -> None:
    futures: collections.deque[tuple[int, Any]] = collections.deque()
    for item in items:
        try:
            futures.append((item, pool.submit(task, *paths, item, secs)))
        except Exception:
            # The pool is broken for good.
            tally["lost"] += 1
        _collect(futures, WINDOW, tally)
        if tally["unfinished"] > 1:
            tally["unfinished"] += len(futures) + items.stop - item - 1
            return
    _collect(futures, 0, tally)


def run(impl: str, tasks: int, workers: int, task_secs: float, kill_every_secs: float, seed: int) -> Report:
    """Let the pool do so many tasks while its workers are killed, and return what came of it."""
    mark = f"chaos-{os.getpid()}-{time.monotonic_ns()}"
    os.environ[processes.MARK] = mark
    tally: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        counts, pids = Path(folder, "counters"), Path(folder, "pids")
        warm = min(2 * WINDOW, tasks)
        counters.make(counts, tasks + warm)
        pids.touch()
        paths = (str(counts), str(pids))
        begun = time.monotonic()
        pool = open_pool(impl, workers)
        _work(pool, paths, range(tasks, tasks + warm), 0.0, collections.Counter())
        gc.collect()
        descriptors, memory = processes.descriptors(), processes.resident()
        killer = Killer(pids, kill_every_secs, seed)
        killer.start()
        _work(pool, paths, range(tasks), task_secs, tally)
        killer.ended.set()
        killer.join()
        gc.collect()
        descriptors_after, memory_after = processes.descriptors(), processes.resident()
        if tally["unfinished"] == 0:
            pool.shutdown()
        left = len(processes.wait_until_gone(mark, 2.0))
        processes.kill_marked(mark)
        return Report(
            impl,
            tasks,
            killer.kills,
            tally["done"],
            tally["wrong"],
            tally["lost"],
            tally["unfinished"],
            counters.above_one(counters.read(counts)),
            descriptors,
            descriptors_after,
            memory,
            memory_after,
            left,
            round(time.monotonic() - begun, 2),
            seed,
        )


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tricorne.testing.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--impl", choices=list(IMPLEMENTATIONS), default="tricorne")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--task-micros", type=float, default=100.0, help="how long a task computes")
    parser.add_argument("--kill-every-ms", type=float, default=20.0, help="the mean time between two kills")
    parser.add_argument("--seed", type=int, default=None, help="of the killer; drawn and printed by default")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    if IMPLEMENTATIONS[options.impl].version() is None:
        print(f"`{options.impl}` is not installed", file=sys.stderr)
        return 2
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    report = run(
        options.impl, options.tasks, options.workers, options.task_micros / 1e6, options.kill_every_ms / 1e3, seed
    )
    if options.json:
        print(json.dumps({**report._asdict(), "passed": report.passed()}))
    else:
        for name, value in report._asdict().items():
            print(f"{name:<20} {value}")
        print("passed" if report.passed() else "FAILED")
    sys.stdout.flush()
    if report.unfinished:
        # A pool that hangs would hold up the end of this process.
        os._exit(1)
    return 0 if report.passed() else 1


if __name__ == "__main__":
    sys.exit(main())
