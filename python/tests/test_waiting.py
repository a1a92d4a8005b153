"""Waiting itself, the same for every primitive and queue: signals, fork, interpreter exit, stacks, subinterpreters."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are another matter there")

PRELUDE = """
import os, signal, sys, time, threading as standard
from tricorne import threading, queue
"""

# How each of them is made to wait; `{}` is for a time limit.
WAITS = {
    "lock": ("lock = threading.Lock(); lock.acquire()", "lock.acquire({})", "timeout="),
    "with lock": ("lock = threading.Lock(); lock.acquire()", "lock.__enter__()", None),
    "rlock": ("lock = threading.RLock(); t = standard.Thread(target=lock.acquire); t.start(); t.join()", "lock.acquire({})", "timeout="),
    "semaphore": ("semaphore = threading.Semaphore(0)", "semaphore.acquire({})", "timeout="),
    "event": ("event = threading.Event()", "event.wait({})", "timeout="),
    "condition": ("condition = threading.Condition(); condition.acquire()", "condition.wait({})", "timeout="),
    "barrier": ("barrier = threading.Barrier(2)", "barrier.wait({})", "timeout="),
    "queue get": ("q = queue.Queue()", "q.get({})", "timeout="),
    "queue put": ("q = queue.Queue(1); q.put(1)", "q.put({})", "2, timeout="),
    "queue join": ("q = queue.Queue(); q.put(1)", "q.join()", None),
    "simple queue": ("q = queue.SimpleQueue()", "q.get({})", "timeout="),
    "priority queue": ("q = queue.PriorityQueue()", "q.get({})", "timeout="),
    "future": ("from tricorne import futures; f = futures.Future()", "f.result({})", "timeout="),
    "futures": ("from tricorne import futures; f = futures.Future()", "not futures.wait([f], {}).not_done", "timeout="),
    "each future": ("from tricorne import futures; f = futures.Future()", "next(futures.as_completed([f], {}))", "timeout="),
    "token": ("from tricorne import CancelToken; token = CancelToken()", "token.wait({})", "timeout="),
}


def run_program(program: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)], capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_every_wait(name: str) -> None:
    setup, wait, _ = WAITS[name]
    wait = wait.format("2" if name == "queue put" else "")
    done = run_program(
        f"""
        {setup}
        def interrupt():
            time.sleep(0.2)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        sent = []
        standard.Thread(target=interrupt).start()
        try:
            {wait}
        except KeyboardInterrupt:
            print(time.monotonic() - sent[0])
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    # A twentieth of a second on a calm machine; the bound leaves room for a busy one.
    assert 0 <= float(done.stdout) < 2


@pytest.mark.parametrize("name", [name for name, (_, _, limit) in WAITS.items() if limit])
def test_a_handler_that_returns_lets_the_wait_go_on_with_the_time_that_is_left(name: str) -> None:
    setup, wait, limit = WAITS[name]
    wait = wait.format(f"{limit}0.5")
    done = run_program(
        f"""
        {setup}
        handled = []
        signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        start = time.monotonic()
        try:
            result = {wait}
        except (queue.Empty, queue.Full, threading.BrokenBarrierError, TimeoutError) as error:
            result = error
        took = time.monotonic() - start
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert result is False or isinstance(result, Exception), result
        print(took, len(handled))
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    took, handled = done.stdout.split()
    assert 0.49 <= float(took) < 5
    assert int(handled) >= 2


def test_a_handler_may_use_what_the_main_thread_waits_for() -> None:
    done = run_program(
        """
        lock, event, q = threading.Lock(), threading.Event(), queue.Queue()
        lock.acquire()
        def handler(*_):
            if lock.locked() and not event.is_set():
                lock.release()
                event.set()
            q.put("from the handler")
        signal.signal(signal.SIGALRM, handler)
        for wait in (lock.acquire, event.wait, q.get):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            print(wait())
        # What is left of the last one must not end a slow exit.
        signal.setitimer(signal.ITIMER_REAL, 0)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:3] == ["True", "True", "from the handler"]


def test_only_the_main_thread_wakes_up_for_signals() -> None:
    done = run_program(
        """
        import resource
        event = threading.Event()
        threads = [standard.Thread(target=event.wait) for _ in range(20)]
        for thread in threads: thread.start()
        time.sleep(0.1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        time.sleep(0.5)
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
        event.set()
        for thread in threads: thread.join()
        print(switches)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 20


@pytest.mark.parametrize("name", WAITS)
def test_the_interpreter_ends_while_daemon_threads_wait(name: str) -> None:
    setup, wait, limit = WAITS[name]
    forever = wait.format("2" if name == "queue put" else "")
    short = wait.format(f"{limit}0.001") if limit else "pass"
    done = run_program(
        f"""
        import atexit
        {setup if name != "condition" else "pass"}
        def wait_forever():
            {setup if name == "condition" else "pass"}
            {forever}
        def wait_often():
            {setup if name == "condition" else "pass"}
            while True:
                try: {short}
                except Exception: pass
                time.sleep(0)
        for target in (wait_forever, wait_often, wait_often):
            standard.Thread(target=target, daemon=True).start()
        time.sleep(0.1)
        print("end")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_stacks_are_shown_while_fifty_threads_wait() -> None:
    done = run_program(
        """
        import faulthandler
        event = threading.Event()
        threads = [standard.Thread(target=event.wait) for _ in range(50)]
        for thread in threads: thread.start()
        while event.stats().waiting < 50: time.sleep(0.001)
        faulthandler.dump_traceback(all_threads=True)
        event.set()
        for thread in threads: thread.join()
        """
    )
    assert done.returncode == 0
    assert done.stderr.count("Thread 0x") + done.stderr.count("Current thread") == 51


FORKS = {
    "lock": ("lock = threading.Lock(); lock.acquire()", "lock.acquire()", "lock.release()", "lock.acquire(timeout=5)"),
    "rlock": ("lock = threading.RLock(); lock.acquire()", "lock.acquire()", "lock.release()", "lock.acquire(timeout=5)"),
    "semaphore": ("s = threading.Semaphore(0)", "s.acquire()", "s.release()", "s.acquire(timeout=5)"),
    "event": ("e = threading.Event()", "e.wait()", "e.set()", "e.wait(timeout=5)"),
    "condition": ("c = threading.Condition()", "(c.acquire(), c.wait())", "None", "(c.acquire(), c.stats().waiting == 0)[1]"),
    "barrier": ("b = threading.Barrier(2)", "b.wait()", "standard.Thread(target=b.wait).start()", "b.wait(timeout=5) in (0, 1)"),
    "queue": ("q = queue.Queue()", "q.get()", "q.put(True)", "q.get(timeout=5)"),
    "full queue": ("q = queue.Queue(1); q.put(0)", "q.put(2)", "q.get()", "(q.get(timeout=5) if GRANTED else (q.put(True), q.get())[1])"),
    "open queue": ("q = queue.Queue(); q.mutex", "q.get()", "q.put(True)", "q.get(timeout=5)"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("granted", [False, True], ids=["waiting", "granted"])
@pytest.mark.parametrize("name", FORKS)
def test_a_forked_child_knows_nothing_of_those_who_waited(name: str, granted: bool) -> None:
    setup, wait, give, take = FORKS[name]
    take = take.replace("GRANTED", str(granted))
    # "granted": the waiter was served and had no time to go on, since the main thread keeps the interpreter until it forks.
    done = run_program(
        f"""
        import faulthandler, warnings
        warnings.simplefilter("ignore")
        faulthandler.dump_traceback_later(30, exit=True)
        {setup}
        thread = standard.Thread(target=lambda: {wait}, daemon=True)
        thread.start()
        time.sleep(0.1)
        sys.setswitchinterval(10)
        if {granted}: {give}
        pid = os.fork()
        if pid == 0:
            if not {granted} or {name!r} in ("barrier", "event"): {give}
            ok = {take}
            # What the child itself makes wait is served.
            s = threading.Semaphore(0)
            t = standard.Thread(target=s.acquire)
            t.start()
            s.release()
            t.join(10)
            os._exit(0 if ok and not t.is_alive() else 1)
        sys.setswitchinterval(0.005)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os._exit(0)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_thread_that_forks_is_the_main_thread_of_the_child() -> None:
    done = run_program(
        """
        import warnings
        warnings.simplefilter("ignore")
        def fork():
            threading.Event().wait(0.01)
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                threading.Event().wait(30)
                os._exit(1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        codes = []
        thread = standard.Thread(target=fork)
        thread.start()
        thread.join()
        print(codes)
        """
    )
    assert (done.returncode, done.stdout) == (0, "[7]\n"), done.stderr


def test_a_subinterpreter_gets_one_clear_error() -> None:
    done = run_program(
        """
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            import _interpreters as interpreters
        code = '''
        try:
            import tricorne.threading
        except ImportError as error:
            print("refused:", error, flush=True)
        '''
        import textwrap
        interpreter = interpreters.create()
        sys.stdout.flush()
        interpreters.run_string(interpreter, textwrap.dedent(code))
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused:") and "subinterpreter" in done.stdout, done.stdout + done.stderr


def test_waits_end_in_time() -> None:
    done = run_program(
        """
        for wait in (threading.Event().wait, threading.Semaphore(0).acquire):
            start = time.monotonic()
            assert wait(timeout=0.05) is False
            print(time.monotonic() - start)
        """
    )
    for took in map(float, done.stdout.split()):
        assert 0.05 <= took < 5
