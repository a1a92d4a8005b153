"""Something cannot be pickled or unpickled; something is large."""

import importlib
import os
import threading
import time
import traceback
from typing import Any

from tricorne.testing import processes
from tricorne.testing.conduct import tasks
from tricorne.testing.conduct.check import Subject, check, expect, outcome, usable
from tricorne.testing.pools import NotOffered, Pool

BAD = "Bad payloads"
LARGE = "Large data"


def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        raise NotOffered("numpy is not installed") from None


def _fails_alone(subject: Subject, what: str) -> str:
    with subject.open() as pool:
        usable(pool)
        bad = _submit(pool, what)
        others = [pool.submit(tasks.echo, item) for item in range(20)]
        _, raised = bad if isinstance(bad, tuple) else outcome(bad)
        expect(raised is not None, "no error")
        lost = sum(outcome(other)[1] is not None for other in others)
        expect(lost == 0, f"{lost} of 20 other tasks lost with {type(raised).__name__}")
        usable(pool)
    return f"{type(raised).__name__}: {str(raised)[:80]}"


def _submit(pool: Pool, what: str) -> object:
    match what:
        case "argument":
            try:
                return pool.submit(tasks.echo, threading.Lock())
            except Exception as refused:
                return None, refused
        case "unreadable argument":
            return pool.submit(tasks.echo, tasks.FailsWhenUnpickled())
        case "result":
            return pool.submit(tasks.unpicklable_result)
        case "unreadable result":
            return pool.submit(tasks.result_that_fails)
        case "exception":
            return pool.submit(tasks.raise_holder)
        case _:
            return pool.submit(tasks.raise_two_arguments)


@check(BAD, "An argument that cannot be pickled fails that task only.")
def unpicklable_argument(subject: Subject) -> str:
    return _fails_alone(subject, "argument")


@check(BAD, "An argument that cannot be unpickled fails that task only.")
def unreadable_argument(subject: Subject) -> str:
    return _fails_alone(subject, "unreadable argument")


@check(BAD, "A result that cannot be pickled fails that task only.")
def unpicklable_result(subject: Subject) -> str:
    return _fails_alone(subject, "result")


@check(BAD, "A result that cannot be unpickled fails that task only.")
def unreadable_result(subject: Subject) -> str:
    return _fails_alone(subject, "unreadable result")


@check(BAD, "An exception that cannot be pickled arrives all the same, for that task only.")
def unpicklable_exception(subject: Subject) -> str:
    said = _fails_alone(subject, "exception")
    expect("holds a lock" in said, f"its text is lost: {said}")
    return said


@check(BAD, "An exception that cannot be unpickled arrives as text, for that task only.")
def unreadable_exception(subject: Subject) -> str:
    said = _fails_alone(subject, "unreadable exception")
    expect("needs two arguments" in said or "TwoArguments" in said, f"its text is lost: {said}")
    return said


@check(BAD, "A task that calls `sys.exit` fails alone.")
def task_calls_sys_exit(subject: Subject) -> str:
    with subject.open() as pool:
        usable(pool)
        others = [pool.submit(tasks.sleep, 0.01) for _ in range(10)]
        _, raised = outcome(pool.submit(tasks.leave))
        expect(raised is not None, "no error")
        lost = sum(outcome(other)[1] is not None for other in others)
        expect(lost == 0, f"{lost} of 10 other tasks lost")
        usable(pool)
    return repr(raised)[:80]


@check(BAD, "The traceback of a remote error shows the line of the task.")
def remote_traceback(subject: Subject) -> str:
    with subject.open() as pool:
        _, raised = outcome(pool.submit(tasks.fail, "x"))
    expect(raised is not None, "no error")
    expect("in fail" in "".join(traceback.format_exception(raised)), "only local lines")
    return "as text" if not _has_frame(raised) else "as frames"


@check(BAD, "The traceback of a remote error has real frames, which tools can walk.")
def remote_frames(subject: Subject) -> str:
    with subject.open() as pool:
        _, raised = outcome(pool.submit(tasks.fail, "x"))
    expect(_has_frame(raised), "text only")
    return "the frame of the task is in the chain"


def _has_frame(raised: BaseException | None) -> bool:
    while raised is not None:
        if any(frame.f_code.co_name == "fail" for frame, _ in traceback.walk_tb(raised.__traceback__)):
            return True
        raised = raised.__cause__ or raised.__context__
    return False


@check(LARGE, "128 MiB go in, and come out.")
def huge_argument(subject: Subject) -> str:
    data = bytes(128 << 20)
    begun = time.monotonic()
    with subject.open() as pool:
        expect(outcome(pool.submit(tasks.length, data))[0] == len(data), "another length")
        back, raised = outcome(pool.submit(tasks.echo, data))
        expect(raised is None and len(back) == len(data), f"did not come back: {raised!r}"[:100])
    return f"{time.monotonic() - begun:.1f} s"


@check(LARGE, "64 tasks of 4 MiB in and out, whose results nobody takes yet, do not stand in each other's way.")
def many_large_both_ways(subject: Subject) -> str:
    data = bytes(4 << 20)
    begun = time.monotonic()
    with subject.open() as pool:
        futures = [pool.submit(tasks.echo, data) for _ in range(64)]
        for future in futures:
            value, raised = outcome(future)
            expect(raised is None and len(value) == len(data), f"lost: {raised!r}"[:100])
    return f"{time.monotonic() - begun:.1f} s"


@check(LARGE, "A large array can be written to in the worker and here, and the caller's own stays as it was.")
def arrays_stay_writable(subject: Subject) -> str:
    array = _numpy().zeros(1 << 20)
    with subject.open() as pool:
        for _ in range(3):
            back, raised = outcome(pool.submit(tasks.fill, array, 7.0))
            expect(raised is None, f"the worker cannot write: {raised}"[:100])
            expect(back[0] == 7.0 and array[0] == 0.0, "the values are wrong")
            expect(back.flags.writeable, "the result is read-only")
            back[1] = 1.0
    return "writable both ways"


@check(LARGE, "Descriptors and memory stay level over 200 large arrays.", limit=90)
def nothing_leaks(subject: Subject) -> str:
    array = _numpy().zeros(1 << 19)
    with subject.open() as pool:

        def turn(times: int) -> None:
            for _ in range(times):
                value, raised = outcome(pool.submit(tasks.echo, array))
                expect(raised is None and len(value) == len(array), f"{raised!r}"[:100])

        turn(30)
        descriptors, memory = processes.descriptors(), processes.resident()
        turn(200)
        more, grown = processes.descriptors() - descriptors, (processes.resident() - memory) / (1 << 20)
        said = f"{more:+d} descriptors, {grown:+.0f} MiB"
        expect(more <= 4 and grown < 64, said)
    return said


@check(LARGE, "Ten pools made and ended leave no descriptor and no process behind.", limit=90)
def pools_leave_nothing(subject: Subject) -> str:
    def once() -> None:
        with subject.open() as pool:
            usable(pool)

    once()
    before = processes.descriptors()
    children = len(_children())
    for _ in range(10):
        once()
    time.sleep(0.2)
    said = f"{processes.descriptors() - before:+d} descriptors, {len(_children()) - children:+d} processes"
    expect(processes.descriptors() - before <= 2 and len(_children()) <= children, said)
    return said


def _children() -> list[int]:
    return processes.marked(os.environ.get(processes.MARK, ""))
