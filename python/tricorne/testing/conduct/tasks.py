"""What the checks have workers do. All of it can be imported by a worker."""

import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from tricorne.testing import counters
from tricorne.testing.pools import open_pool

LOCK = threading.Lock()
"""A lock of a module, such as logging has."""

_state: list[int] = []


def pid(_: object = None) -> int:
    return os.getpid()


def echo(value: Any) -> Any:
    return value


def sleep(secs: float) -> float:
    time.sleep(secs)
    return secs


def compute(secs: float) -> int:
    """Keep a core busy."""
    end, turns = time.monotonic() + secs, 0
    while time.monotonic() < end:
        turns += 1
    return turns


def counted(path: str, item: int, killer: int = -1, how: str = "kill") -> int:
    """Count an item; one of them ends its process after that."""
    counters.count(path, item)
    if item == killer:
        end(how)
    return item


def sleep_counted(path: str, item: int, secs: float) -> int:
    time.sleep(secs)
    counters.count(path, item)
    return item


def end(how: str) -> None:
    """End this process."""
    if how == "abort":
        os.abort()
    if how == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def note_pid_and_end(path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    end("kill")


def note_pid_and_sleep(path: str, secs: float) -> None:
    with open(path + ".part", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)
    time.sleep(secs)


def last_words(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    end("abort")


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def leave() -> NoReturn:
    sys.exit(3)


def take_lock() -> int:
    with LOCK:
        return 1


def unpicklable_result() -> Any:
    return threading.Lock()


class TwoArguments(Exception):
    """It pickles, and does not unpickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("needs two arguments")


def raise_two_arguments() -> NoReturn:
    raise TwoArguments(1, 2)


class Holder(Exception):
    """It does not pickle."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def raise_holder() -> NoReturn:
    raise Holder("holds a lock")


class EndsWhenPickled:
    def __reduce__(self) -> Any:
        end("kill")
        return (int, ())


def result_that_kills() -> Any:
    return EndsWhenPickled()


class EndsWhenUnpickled:
    def __reduce__(self) -> Any:
        return (end, ("kill",))


class FailsWhenUnpickled:
    def __reduce__(self) -> Any:
        return (fail, ("not to be unpickled",))


def result_that_fails() -> Any:
    return FailsWhenUnpickled()


def kill_soon_and_return(megabytes: int) -> bytes:
    """A result that takes longer to send than this process lives."""

    def kill() -> None:
        time.sleep(0.05)
        end("kill")

    data = bytes(megabytes << 20)
    threading.Thread(target=kill, daemon=True).start()
    return data


def take_memory(megabytes: int) -> int:
    held = bytearray(megabytes << 20)
    for page in range(0, len(held), 4096):
        held[page] = 1
    time.sleep(2)
    return len(held)


def remember(value: int) -> None:
    _state.append(value)


def remembered() -> list[int]:
    return list(_state)


def exit_in_initializer() -> None:
    os._exit(7)


def inner_threads() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def fill(array: Any, value: float) -> Any:
    """Write to the array, and send it back."""
    array[0] = value
    return array


def length(value: Any) -> int:
    return len(value)


def nested(name: str, value: int) -> int:
    """Have a pool of one's own do it."""
    with open_pool(name, 1) as pool:
        return int(pool.submit(abs, value).result())


def print_line(text: str) -> None:
    # In one piece: `print` writes the end of the line by itself if output is not buffered, and another worker may come between.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
