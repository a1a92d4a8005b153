"""Counts in a file that many processes map: what is counted stays, however its process ends."""

import functools
import mmap
from collections.abc import Iterable
from pathlib import Path


def make(path: Path, items: int) -> None:
    """Make a file of as many counters, all zero."""
    path.write_bytes(bytes(items))


@functools.cache
def _map(path: str) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def count(path: str, item: int) -> None:
    """Add one to a counter. Only one process at a time may do so for the same one."""
    counters = _map(path)
    counters[item] = min(counters[item] + 1, 255)


def read(path: Path) -> bytes:
    """All counters."""
    return path.read_bytes()


def above_one(counts: Iterable[int]) -> int:
    """How many items were run more than once."""
    return sum(value > 1 for value in counts)
