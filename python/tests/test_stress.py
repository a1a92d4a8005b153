"""32 threads on each primitive and queue, with signals arriving all the while: a moment in the usual run, ten seconds in the deep one."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its signals are Unix ones")

SECONDS = 10.0 if os.environ.get("TRICORNE_DEEP") else 0.5

PRELUDE = """
import faulthandler, random, signal, sys, time, threading as standard
from tricorne import threading, queue
seconds = float(sys.argv[1])
faulthandler.dump_traceback_later(seconds + 60, exit=True)
handled = 0
def handler(*_):
    global handled
    handled += 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
end = time.monotonic() + seconds
failures = []
# Finds its place among the others when it switches often.
sys.setswitchinterval(1e-4)

def check(condition, what):
    if not condition:
        failures.append(what)
        raise SystemExit

def run(*works):
    "The works in turn on 32 threads, and one of them in the main thread, where the signals go."
    def guarded(work, number):
        try:
            work(number)
        except BaseException as error:
            if not isinstance(error, SystemExit):
                failures.append(repr(error))
    threads = [standard.Thread(target=guarded, args=(works[n % len(works)], n)) for n in range(31)]
    for thread in threads: thread.start()
    guarded(works[31 % len(works)], 31)
    for thread in threads: thread.join(60)
    check(not any(thread.is_alive() for thread in threads), "a thread did not end")

def over():
    return time.monotonic() > end
"""

EXCLUSION = """
inside = highest = total = 0
counts = [0] * 32
def work(number):
    global inside, highest, total
    while not over():
        choice = random.random()
        if choice < 0.3:
            if not guard.acquire(timeout=random.random() / 500): continue
        elif choice < 0.5:
            if not guard.acquire(False): continue
        else:
            guard.acquire()
        inside += 1
        highest = max(highest, inside)
        if LIMIT == 1: total += 1
        counts[number] += 1
        if choice > 0.9: time.sleep(0)
        inside -= 1
        guard.release()
run(work)
check(inside == 0 or LIMIT > 1, f"inside {inside}")
check(LIMIT > 1 or highest == 1, f"{highest} inside at once")
check(LIMIT > 1 or total == sum(counts), f"{total} of {sum(counts)}")
check(guard.stats().waiting == 0, "somebody is left in line")
check(sum(counts) > 0, "nothing happened")
"""

PROGRAMS = {
    "Lock": "guard, LIMIT = threading.Lock(), 1" + EXCLUSION,
    "RLock": textwrap.dedent(
        """
        class Nested:
            def __init__(self): self.lock = threading.RLock()
            def acquire(self, *arguments, **named):
                if not self.lock.acquire(*arguments, **named): return False
                self.lock.acquire()
                return True
            def release(self):
                self.lock.release()
                self.lock.release()
            def stats(self): return self.lock.stats()
        guard, LIMIT = Nested(), 1
        """
    )
    + EXCLUSION,
    "Semaphore": "guard, LIMIT = threading.Semaphore(1), 1" + EXCLUSION,
    "BoundedSemaphore": "guard, LIMIT = threading.BoundedSemaphore(5), 5" + EXCLUSION + "\ncheck(guard._value == 5, guard)",
    "Condition": """
        condition, buffer, put, taken = threading.Condition(), [], [0] * 32, [0] * 32
        stop = False
        def produce(number):
            global stop
            while not over():
                with condition:
                    if not condition.wait_for(lambda: len(buffer) < 4, timeout=1): continue
                    buffer.append(number)
                    put[number] += 1
                    condition.notify_all() if random.random() < 0.1 else condition.notify(2)
            with condition:
                stop = True
                condition.notify_all()
        def consume(number):
            while True:
                with condition:
                    while not buffer:
                        if stop: return
                        condition.wait(random.choice([None, 0.001]) if not stop else 0)
                    check(len(buffer) <= 4, f"{len(buffer)} in the buffer")
                    taken[number] += len(buffer)
                    buffer.clear()
                    condition.notify_all()
        run(produce, consume)
        check(sum(put) == sum(taken) + len(buffer) > 0, (sum(put), sum(taken)))
        """,
    "Event": """
        events = [threading.Event() for _ in range(4)]
        woken = [0] * 32
        def set(number):
            while not over():
                events[number % 4].set()
                events[number % 4].clear()
                time.sleep(0)
            for event in events: event.set()
        def wait(number):
            while not over():
                woken[number] += events[number % 4].wait(random.choice([0.001, 5]))
        run(set, wait)
        check(sum(woken) > 0, "nobody was woken")
        """,
    "Barrier": """
        barrier = threading.Barrier(32, action=lambda: rounds.append(1))
        rounds, indexes = [], [[] for _ in range(32)]
        def work(number):
            try:
                while True:
                    indexes[number].append(barrier.wait(30))
                    if number == 0 and over(): return barrier.abort()
            except threading.BrokenBarrierError:
                pass
        run(work)
        for turn in range(min(map(len, indexes))):
            check(sorted(crossed[turn] for crossed in indexes) == list(range(32)), f"round {turn}")
        check(len(rounds) > 0, "nobody got through")
        """,
    "Queue": "q = queue.Queue(10)",
    "LifoQueue": "q = queue.LifoQueue(10)",
    "PriorityQueue": "q = queue.PriorityQueue(10)",
    "SimpleQueue": "q = queue.SimpleQueue()",
}

FLOW = """
put, got, running = [0] * 32, [0] * 32, 16
last = [dict() for _ in range(32)]
lock = standard.Lock()
def produce(number):
    global running
    while not over():
        item = (put[number], number)
        try:
            if random.random() < 0.3: q.put(item, timeout=random.random() / 500)
            elif random.random() < 0.3: q.put_nowait(item)
            else: q.put(item)
        except queue.Full:
            continue
        put[number] += 1
        if isinstance(q, queue.SimpleQueue) and put[number] % 50 == 0: time.sleep(0.001)
    with lock:
        running -= 1
        if not running:
            if hasattr(q, "shutdown"): q.shutdown()
            else: [q.put((sys.maxsize, None)) for _ in range(16)]
def consume(number):
    while True:
        try:
            count, producer = q.get(timeout=random.random() / 500) if random.random() < 0.3 else q.get()
        except queue.Empty:
            continue
        except queue.ShutDown:
            return
        if hasattr(q, "task_done"): q.task_done()
        if producer is None:
            return
        got[number] += 1
        if type(q) in (queue.Queue, queue.SimpleQueue):
            check(count > last[number].get(producer, -1), "an item overtook another of its producer")
            last[number][producer] = count
run(produce, consume)
check(sum(put) == sum(got), (sum(put), sum(got)))
check(q.empty(), "something is left")
if hasattr(q, "join"): q.join()
check(sum(put) > 0, "nothing happened")
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_many_threads_and_signals(name: str) -> None:
    program = PRELUDE + textwrap.dedent(PROGRAMS[name])
    if "Queue" in name:
        program += FLOW
    program += "\nsignal.setitimer(signal.ITIMER_REAL, 0)\nfaulthandler.cancel_dump_traceback_later()\nprint(handled, failures)\n"
    done = subprocess.run(
        [sys.executable, "-c", program, str(SECONDS)], capture_output=True, text=True, timeout=SECONDS + 110, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    handled, failures = done.stdout.split(" ", 1)
    assert failures == "[]\n"
    assert int(handled) > 0
