"""Pipelines: from a plan to a data set."""

import json
import os
from typing import TypedDict, cast

from tricorne import _native

__all__ = ["FetchStats", "InFlightSample", "Pipeline", "RunReport", "ShardReport", "StageReport"]


class FetchStats(TypedDict):
    """What the fetch stage counted."""

    requests: int
    """Requests sent, retries and redirects included."""
    retries: dict[str, int]
    """Retries by what was survived."""
    wire_bytes: int
    """Bytes received on the wire."""
    connections: int
    """Connections opened."""
    in_flight: int
    """Requests under way at the end."""
    limit: int
    """How many might be under way at the end."""


class InFlightSample(TypedDict):
    """Requests under way at one moment."""

    secs: float
    """Seconds since the run began."""
    in_flight: int
    """Requests under way."""
    limit: int
    """How many were allowed."""


class StageReport(TypedDict):
    """The time of a stage, summed over its workers."""

    name: str
    workers: int
    """Threads that work at it."""
    records: int
    """Records that came in."""
    busy_secs: float
    """Seconds at work."""
    starved_secs: float
    """Seconds waiting for something to do."""
    blocked_secs: float
    """Seconds waiting for room behind."""
    cpu_secs: float


class ShardReport(TypedDict):
    """A shard of the data set, as the manifest lists it."""

    file: str
    """The file's name in the output folder."""
    first_id: int
    last_id: int
    rows: int
    dropped: int
    """Records dropped, duplicates included."""
    failed: int
    bytes: int
    """Bytes of the file."""
    sha256: str


class RunReport(TypedDict):
    """What a run did and how long it took: the content of ``run.json``."""

    version: str
    plan_hash: str
    """Hash of what shapes the data."""
    interrupted: bool
    """True if the run was stopped after a checkpoint."""
    records: int
    """Records of the input."""
    resumed: int
    """Records that an earlier run had finished."""
    rows: int
    """Rows of the data set, after dedup."""
    dropped: dict[str, int]
    """Drops of the whole data set by reason."""
    failed: dict[str, int]
    """Failures of the whole data set, by ``stage: kind``."""
    languages: dict[str, int]
    """Rows by language, made in this run, before dedup."""
    fetched: int
    """Pages received in this run."""
    refetched: int
    """Pages received in this run that an earlier run had received too."""
    fetched_bytes: int
    """Bytes of the pages received in this run, after content decoding."""
    fetch: FetchStats
    wall_secs: float
    first_row_secs: float | None
    """Until the sink accepted the first finished row."""
    cpu_secs: dict[str, float]
    """CPU seconds by stage, ``runner`` for everything else, and ``total``."""
    peak_rss_bytes: int
    """The highest resident memory of this process."""
    overlap: float
    """The longest stage's time alone divided by the wall time."""
    overlap_basis: str
    """``estimated``, or ``serial`` if measured one phase after the other."""
    solo_secs: dict[str, float]
    """Seconds of each phase alone, if measured."""
    stages: list[StageReport]
    in_flight: list[InFlightSample]
    """Requests under way over time."""
    shards: list[ShardReport]
    out: str
    """The output folder."""


class Pipeline:
    """A checked plan, ready to run. It never changes: threads may share it, and it may be run again."""

    def __init__(self, native: _native.Pipeline) -> None:
        """Use :meth:`from_toml`."""
        self._native = native

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> "Pipeline":
        """Read and check a plan file. Its relative paths start from its own folder.

        Raises :class:`OSError` if there is no such file, and :class:`tricorne.PlanError` with every mistake of the plan.
        """
        os.stat(path)
        return cls(_native.Pipeline.from_toml(path))

    def run(self, *, retry_failed: bool = False, serial: bool = False) -> RunReport:
        """Run the plan to its end and return its report.

        Other Python threads go on meanwhile. A run that was stopped or killed goes on where it was when it is run again.

        ``retry_failed`` runs the records again that failed in an earlier run; ``serial`` runs fetch, text and sink one after the
        other, to measure each alone.

        Ctrl-C stops the run after a checkpoint and raises :class:`KeyboardInterrupt`; a second one does not wait for the checkpoint.
        Raises :class:`tricorne.RunError` if the run cannot start or go on, and :class:`OSError` for what the system refuses.
        Records that fail raise nothing: they are counted in the report and listed in ``failed.jsonl``.
        """
        return cast(RunReport, json.loads(self._native.run(retry_failed=retry_failed, serial=serial)))
