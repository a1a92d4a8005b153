"""What worker processes are asked to do: functions that they can import."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

state: dict[str, Any] = {}


def square(value: int) -> int:
    return value * value


def echo(value: Any) -> Any:
    return value


def pid(_: object = None) -> int:
    return os.getpid()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def touch(folder: str, number: int) -> int:
    """Leave a mark for each time that it runs."""
    with open(Path(folder) / str(number), "a", encoding="ascii") as file:
        file.write("x")
    return number


def touch_or_die(folder: str, number: int, fatal: int) -> int:
    touch(folder, number)
    if number == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_until(folder: str, times: int, crash: bool) -> int:
    """Fail so many times, then say how often it was called."""
    calls = len(os.listdir(folder)) + 1
    (Path(folder) / str(calls)).touch()
    if calls <= times:
        if crash:
            os._exit(1)
        raise OSError("try again")
    return calls


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def fail_from(text: str) -> NoReturn:
    try:
        fail(text)
    except ValueError as cause:
        raise KeyError("outer") from cause


def put_pid(queue: Any) -> None:
    queue.put(os.getpid())


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(code: int) -> NoReturn:
    os._exit(code)


def abort() -> NoReturn:
    print("about to abort", file=sys.stderr, flush=True)
    os.abort()


def hold_memory(size: int) -> int:
    block = bytearray(size)
    for place in range(0, size, 4096):
        block[place] = 1
    time.sleep(30)
    return len(block)


def set_state(key: str, value: Any) -> None:
    state[key] = value


def get_state(key: str) -> Any:
    return state.get(key)


def environment(name: str) -> str | None:
    return os.environ.get(name)


def say(text: str) -> None:
    print(text, flush=True)


class NotSent:
    """Cannot be pickled."""

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError("not this one")


def _not_read() -> NoReturn:
    raise ZeroDivisionError("on arrival")


class NotRead:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return _not_read, ()


class NotSentError(Exception):
    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError("not this one")


class NotReadError(Exception):
    def __init__(self, one: str, two: str) -> None:
        # Its pickle has one argument too few.
        super().__init__(one)


def give_not_sent() -> NotSent:
    return NotSent()


def give_not_read() -> NotRead:
    return NotRead()


def raise_not_sent() -> NoReturn:
    raise NotSentError("a secret")


def raise_not_read() -> NoReturn:
    raise NotReadError("one", "two")


def nested(value: int) -> int:
    from tricorne.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        return sum(pool.map(square, range(value)))


class Twice:
    """A function that cannot be looked up."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, value: int) -> int:
        return 2 * value
