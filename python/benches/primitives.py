"""The primitives against the standard library's: alone in one thread, contended, and handing over between two threads."""

import threading as standard
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import Bench, Measure, per_call

from tricorne import threading as ours

IMPLEMENTATIONS: dict[str, Any] = {"tricorne": ours, "stdlib": standard}
HAND_OVERS = 1000


def of_each(make: Callable[[Any], Measure]) -> dict[str, Measure]:
    return {name: make(module) for name, module in IMPLEMENTATIONS.items()}


def acquire_release(cls: str) -> Callable[[Any], Measure]:
    def make(module: Any) -> Measure:
        lock = getattr(module, cls)()
        return per_call("acquire(); release()", acquire=lock.acquire, release=lock.release)

    return make


def with_lock(cls: str) -> Callable[[Any], Measure]:
    def make(module: Any) -> Measure:
        return per_call("with lock: pass", lock=getattr(module, cls)())

    return make


def event_set(module: Any) -> Measure:
    return per_call("set()", set=module.Event().set)


def native_call() -> float:
    """What the cheapest method costs that is written in C."""
    return per_call("isdigit()", isdigit=b"".isdigit)()


def event_wait(module: Any) -> Measure:
    event = module.Event()
    event.set()
    return per_call("wait()", wait=event.wait)


def notify(module: Any) -> Measure:
    return per_call("with condition: condition.notify()", condition=module.Condition())


def notify_alone(module: Any) -> Measure:
    condition = module.Condition()
    condition.acquire()
    return per_call("notify()", notify=condition.notify)


def contended(threads: int) -> Callable[[Any], Measure]:
    """Nanoseconds for each `with lock` when so many threads want it."""
    count = 20_000

    def make(module: Any) -> Measure:
        lock = module.Lock()

        def work() -> None:
            for _ in range(count):
                with lock:
                    pass

        return lambda: timed([work] * threads) / (count * threads) * 1e9

    return make


def timed(works: list[Callable[[], None]]) -> float:
    """Seconds until all are done, each in a thread of its own."""
    threads = [standard.Thread(target=work) for work in works]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def turns(works: list[Callable[[], None]]) -> float:
    """Microseconds for one round trip: two hand-overs."""
    return timed(works) / HAND_OVERS * 1e6


def ping_pong(give: str, take: str, module: Any, cls: str, *arguments: int) -> float:
    left, right = (getattr(module, cls)(*arguments) for _ in range(2))
    if cls == "Lock":
        left.acquire(), right.acquire()

    def player(mine: Any, yours: Any, begins: bool) -> Callable[[], None]:
        take_mine, give_yours = getattr(mine, take), getattr(yours, give)
        clear = getattr(mine, "clear", None)

        def play() -> None:
            if begins:
                give_yours()
            for left in range(HAND_OVERS, 0, -1):
                take_mine()
                if clear is not None:
                    clear()
                if left > 1 or not begins:
                    give_yours()

        return play

    return turns([player(left, right, True), player(right, left, False)])


def lock_ping_pong(module: Any) -> Measure:
    return lambda: ping_pong("release", "acquire", module, "Lock")


def event_ping_pong(module: Any) -> Measure:
    return lambda: ping_pong("set", "wait", module, "Event")


def semaphore_ping_pong(module: Any) -> Measure:
    return lambda: ping_pong("release", "acquire", module, "Semaphore", 0)


def condition_ping_pong(module: Any) -> Measure:
    def measure() -> float:
        condition, turn = module.Condition(), [0]

        def player(me: int) -> Callable[[], None]:
            def play() -> None:
                with condition:
                    for _ in range(HAND_OVERS):
                        while turn[0] != me:
                            condition.wait()
                        turn[0] = 1 - me
                        condition.notify()

            return play

        return turns([player(0), player(1)])

    return measure


def barrier_rounds(module: Any) -> Measure:
    def measure() -> float:
        barrier = module.Barrier(2)

        def play() -> None:
            for _ in range(HAND_OVERS):
                barrier.wait()

        return turns([play, play])

    return measure


def two_wakes() -> float:
    """The floor of a round trip under one interpreter: the bare locks that the interpreter itself is made of."""
    return ping_pong("release", "acquire", standard, "Lock")


def benches() -> Iterator[Bench]:
    for cls in ("Lock", "RLock", "Semaphore"):
        yield Bench(f"{cls} acquire + release", "ns", of_each(acquire_release(cls)))
        yield Bench(f"with {cls}", "ns", of_each(with_lock(cls)))
    yield Bench("Event.set", "ns", of_each(event_set), native_call)
    yield Bench("Event.wait, set", "ns", of_each(event_wait), native_call)
    yield Bench("with Condition: notify", "ns", of_each(notify))
    yield Bench("Condition.notify, lock held", "ns", of_each(notify_alone), native_call)
    for threads in (2, 8):
        yield Bench(f"with Lock, {threads} threads", "ns", of_each(contended(threads)))
    for name, make in [
        ("Lock ping-pong", lock_ping_pong),
        ("Event ping-pong", event_ping_pong),
        ("Semaphore ping-pong", semaphore_ping_pong),
        ("Condition ping-pong", condition_ping_pong),
        ("Barrier round", barrier_rounds),
    ]:
        yield Bench(name, "us", of_each(make), two_wakes)
