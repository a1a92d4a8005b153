"""The primitives beyond what CPython's own tests look at: the whole module, foreign locks, subclasses, figures, memory."""

import copy
import gc
import inspect
import pickle
import threading as standard
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tricorne import threading

PRIMITIVES = ["Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"]


def make(name: str) -> Any:
    arguments = (2,) if name == "Barrier" else ()
    return getattr(threading, name)(*arguments)


def in_thread(function: Callable[[], object]) -> list[object]:
    """What the function returns or raises in another thread."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = standard.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return results


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.001)


def test_the_module_is_whole() -> None:
    for name in [*standard.__all__, "_register_atexit", "_shutdown"]:
        assert getattr(threading, name) is not None, name
    for name in PRIMITIVES:
        assert getattr(threading, name) is not getattr(standard, name)
    missing = set(standard.__all__) - set(threading.__all__)
    assert not missing
    with pytest.raises(AttributeError):
        _ = threading.no_such_name


def test_what_is_set_is_set_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = threading
    failed: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "excepthook", lambda args: failed.append(args.exc_type))
        patch.setattr(module, "a_new_name", 1, raising=False)
        patch.setattr(module, "Lock", None)
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join(60)
        assert failed == [ZeroDivisionError]
        assert vars(standard)["a_new_name"] == 1
        assert (module.Lock, callable(standard.Lock)) == (None, True)
    assert not hasattr(standard, "a_new_name")
    assert module.excepthook is standard.excepthook


@pytest.mark.parametrize("name", PRIMITIVES)
def test_each_class_reads_well(name: str) -> None:
    cls = getattr(threading, name)
    assert cls.__module__ == "tricorne.threading"
    assert inspect.signature(cls) is not None
    assert cls.__doc__ and f"threading.{name}" in cls.__doc__
    for member, value in vars(cls).items():
        if not member.startswith("_"):
            assert value.__doc__, f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", PRIMITIVES)
def test_weak_references_subclasses_and_attributes(name: str) -> None:
    base = getattr(threading, name)

    class Named(base):  # type: ignore[misc, valid-type]
        def __init__(self, label: str) -> None:
            super().__init__(*((2,) if name == "Barrier" else ()))
            self.label = label

    named = Named("mine")
    assert named.label == "mine"
    assert "Named" in repr(named)
    reference = weakref.ref(named)
    del named
    gc.collect()
    assert reference() is None
    if name not in ("Lock", "RLock"):
        plain = make(name)
        plain.note = "as with the standard library's"
        assert plain.note


@pytest.mark.parametrize("name", PRIMITIVES)
def test_nobody_gets_a_copy_by_accident(name: str) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            duplicate(make(name))


def test_a_class_that_does_not_call_init_is_told_so() -> None:
    class Forgetful(threading.Condition):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful().acquire()


@pytest.mark.parametrize("lock", [threading.Lock, threading.RLock])
def test_lock_and_rlock_take_no_arguments(lock: Any) -> None:
    with pytest.raises(TypeError):
        lock(1)


@pytest.mark.parametrize(
    "make_lock", [standard.Lock, standard.RLock, threading.Lock, threading.RLock, standard.Semaphore, threading.Semaphore]
)
def test_a_condition_works_around_any_lock(make_lock: Callable[[], Any]) -> None:
    lock = make_lock()
    condition = threading.Condition(lock)
    assert not condition.locked()
    seen: list[bool] = []

    def wait() -> None:
        with condition:
            seen.append(condition.wait(30))

    thread = standard.Thread(target=wait)
    thread.start()
    until(lambda: condition.stats().waiting == 1)
    with condition:
        assert condition.locked()
        condition.notify()
    thread.join(30)
    assert seen == [True]
    assert not condition.locked()


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock])
def test_the_standard_condition_works_around_our_locks(make_lock: Callable[[], Any]) -> None:
    condition = standard.Condition(make_lock())
    seen: list[bool] = []
    waiting = standard.Event()

    def wait() -> None:
        with condition:
            waiting.set()
            seen.append(condition.wait(30))

    thread = standard.Thread(target=wait)
    thread.start()
    assert waiting.wait(30)
    with condition:
        condition.notify()
    thread.join(30)
    assert seen == [True]


def test_a_condition_asks_a_subclass_of_our_locks() -> None:
    calls: list[str] = []

    class Traced(threading.RLock):
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            calls.append("acquire")
            return super().acquire(blocking, timeout)

    condition = threading.Condition(Traced())
    condition.acquire()
    condition.release()
    assert calls == ["acquire"]


def test_a_timed_wait_of_a_condition_gives_back_all_levels() -> None:
    condition = threading.Condition()
    with condition, condition, condition:
        assert condition.wait(0.01) is False
        assert condition.wait(0) is False
        assert in_thread(lambda: condition.acquire(False)) == [False]
    assert in_thread(lambda: condition.acquire(False)) == [True]


def test_notified_in_the_order_of_their_waits() -> None:
    condition = threading.Condition()
    order: list[int] = []

    def wait(number: int) -> None:
        with condition:
            condition.wait()
            order.append(number)

    threads = []
    for number in range(4):
        threads.append(standard.Thread(target=wait, args=(number,)))
        threads[-1].start()
        until(lambda: condition.stats().waiting == len(threads))
    for number in range(4):
        with condition:
            condition.notify()
        until(lambda: len(order) == number + 1)
    assert order == [0, 1, 2, 3]
    for thread in threads:
        thread.join(30)


def test_a_bounded_semaphore_adds_nothing_if_it_would_be_too_much() -> None:
    semaphore = threading.BoundedSemaphore(3)
    assert semaphore.acquire()
    with pytest.raises(ValueError, match="too many"):
        semaphore.release(2)
    assert "value=2/3" in repr(semaphore)


def test_with_calls_the_release_of_a_subclass() -> None:
    released: list[int] = []

    class Counting(threading.Semaphore):
        def release(self, n: int = 1) -> None:
            released.append(n)
            super().release(n)

    with Counting():
        pass
    assert released == [1]


def test_time_limits_are_checked() -> None:
    lock, event, semaphore = threading.Lock(), threading.Event(), threading.Semaphore(0)
    refused: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: lock.acquire(False, 1), ValueError),
        (lambda: lock.acquire(timeout=-2), ValueError),
        (lambda: lock.acquire(timeout=float("nan")), ValueError),
        (lambda: lock.acquire(timeout=threading.TIMEOUT_MAX * 2), OverflowError),
        (lambda: event.wait(threading.TIMEOUT_MAX * 2), OverflowError),
        (lambda: semaphore.acquire(False, 1), ValueError),
        (lambda: semaphore.release(0), ValueError),
        (lambda: semaphore.release(2**62), OverflowError),
        (lambda: event.wait("soon"), TypeError),  # type: ignore[arg-type]
        (lambda: threading.Semaphore(-1), ValueError),
        (lambda: threading.Barrier(0), ValueError),
    ]
    for call, error in refused:
        with pytest.raises(error):
            call()
    assert semaphore.acquire(timeout=-1) is False
    assert event.wait(-1) is False
    assert lock.acquire(1) and not lock.acquire(0)  # type: ignore[arg-type]


def test_the_figures_of_a_wait() -> None:
    lock = threading.Lock()
    lock.acquire()
    thread = standard.Thread(target=lock.acquire)
    thread.start()
    until(lambda: lock.stats().waiting == 1)
    time.sleep(0.02)
    lock.release()
    thread.join(30)
    stats = lock.stats()
    assert (stats.waiting, stats.waits) == (0, 1)
    assert 0.01 < stats.wait_secs < 30
    with pytest.raises(AttributeError):
        stats.waits = 0  # type: ignore[misc]
    assert "waits=1" in repr(stats)


def test_the_action_of_a_barrier_that_raises_breaks_it() -> None:
    def action() -> None:
        raise LookupError("no")

    barrier = threading.Barrier(2, action, timeout=30)
    other: list[object] = []
    thread = standard.Thread(target=lambda: other.extend(in_thread(barrier.wait)))
    thread.start()
    mine: object
    try:
        mine = barrier.wait()
    except Exception as error:
        mine = error
    thread.join(30)
    assert sorted(type(end).__name__ for end in (mine, *other)) == ["BrokenBarrierError", "LookupError"]
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


def test_locks_in_cycles_are_collected() -> None:
    class Holder:
        def __init__(self) -> None:
            self.condition = threading.Condition()
            self.condition.holder = self  # type: ignore[attr-defined]
            self.barrier = threading.Barrier(1, self.act)
            self.event = threading.Event()
            self.event.holder = self  # type: ignore[attr-defined]

        def act(self) -> None:
            pass

    gc.disable()
    try:
        holder = Holder()
        reference = weakref.ref(holder)
        del holder
        gc.collect()
        assert reference() is None
    finally:
        gc.enable()


def test_waiting_leaves_no_references() -> None:
    lock = threading.Lock()
    event = threading.Event()
    lock.acquire()
    before = len(gc.get_objects())
    for _ in range(200):
        assert not lock.acquire(timeout=0.0001)
        assert not event.wait(0.0001)
    reference = weakref.ref(event)
    del event
    assert reference() is None
    assert len(gc.get_objects()) - before < 100
