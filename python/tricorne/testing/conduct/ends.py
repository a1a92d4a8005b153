"""How a program with a pool ends."""

import os
import signal
import time

from tricorne.testing import counters
from tricorne.testing.conduct.check import Script, Subject, check, expect, usable

GROUP = "The end"

BUSY = """
import os, sys, time
from tricorne.testing.conduct import tasks

if __name__ == "__main__":
    pool = open_pool(POOL)
    futures = [pool.submit(tasks.note_pid_and_sleep, os.path.join(FOLDER, f"worker-{item}"), 1.0) for item in range(40)]
    while len([name for name in os.listdir(FOLDER) if name.startswith("worker-") and not name.endswith(".part")]) < 2:
        time.sleep(0.005)
    with open(os.path.join(FOLDER, "busy"), "w") as file:
        file.write("yes")
    for future in futures:
        future.result()
"""


@check(GROUP, "A program that ends with work submitted, and says nothing, has it done.", limit=40)
def exit_drains(subject: Subject) -> str:
    path = subject.folder / "counters"
    counters.make(path, 20)
    script = subject.script(
        """
import os
from tricorne.testing.conduct import tasks
if __name__ == "__main__":
    pool = open_pool(POOL)
    for item in range(20):
        pool.submit(tasks.sleep_counted, os.path.join(FOLDER, "counters"), item, 0.1)
"""
    )
    begun = time.monotonic()
    code = script.wait(20)
    took = time.monotonic() - begun
    done = sum(counters.read(path))
    expect(done == 20 and code == 0, f"{done} of 20 tasks done, exit code {code}, {took:.1f} s: {script.last_line()}")
    expect(not script.left(2), "processes are left")
    return f"20 of 20 tasks done, {took:.1f} s"


@check(GROUP, "A program that has used large arrays ends without a word on stderr.", limit=40)
def quiet_end(subject: Subject) -> str:
    script = subject.script(
        """
from tricorne.testing.conduct import tasks
if __name__ == "__main__":
    data = bytes(8 << 20)
    with open_pool(POOL) as pool:
        for _ in range(5):
            assert pool.submit(tasks.length, data).result() == len(data)
"""
    )
    expect(script.wait(20) == 0, f"failed: {script.last_line()}")
    expect(script.text() == "", f"said: {script.last_line()}")
    return "nothing said"


@check(GROUP, "What workers print is not lost.", limit=40)
def prints_are_kept(subject: Subject) -> str:
    script = subject.script(
        """
from tricorne.testing.conduct import tasks
if __name__ == "__main__":
    with open_pool(POOL) as pool:
        for future in [pool.submit(tasks.print_line, f"line {item}") for item in range(50)]:
            future.result()
"""
    )
    expect(script.wait(20) == 0, f"failed: {script.last_line()}")
    there = len(set(script.text().splitlines()) & {f"line {item}" for item in range(50)})
    expect(there == 50, f"{there} of 50 lines")
    return "50 of 50 lines"


def _interrupted(script: Script) -> str:
    script.until("busy")
    begun = time.monotonic()
    # As a terminal does it: to all processes of the group.
    os.killpg(script.process.pid, signal.SIGINT)
    code = script.wait(10)
    took = time.monotonic() - begun
    left = script.left(0.5)
    said = f"{took:.2f} s, {len(script.text().splitlines())} lines of output"
    expect(not left, f"{len(left)} processes are left; {said}")
    expect(code != 0, f"the program ended with 0; {said}")
    expect(took <= 0.5, said)
    return said


@check(GROUP, "Ctrl-C, once, ends the program within 0.5 s and leaves no process.", limit=40, attempts=3)
def ctrl_c_once(subject: Subject) -> str:
    return _interrupted(subject.script(BUSY))


@check(GROUP, "The same in the middle of a `map` inside `with`.", limit=40, attempts=3)
def ctrl_c_in_a_map(subject: Subject) -> str:
    return _interrupted(
        subject.script(
            """
import os
from tricorne.testing.conduct import tasks
if __name__ == "__main__":
    with open_pool(POOL) as pool:
        for _ in pool.map(tasks.compute, [0.3] * 200):
            with open(os.path.join(FOLDER, "busy"), "w") as file:
                file.write("yes")
"""
        )
    )


@check(GROUP, "A program that handles Ctrl-C itself keeps its workers: the signal does not hit the task that runs.", limit=40)
def ctrl_c_handled(subject: Subject) -> str:
    """The program has a handler of its own: the task that runs must not be hit by the signal."""
    script = subject.script(
        """
import os, signal
from tricorne.testing.conduct import tasks
if __name__ == "__main__":
    pool = open_pool(POOL)
    pool.submit(abs, -1).result()
    signal.signal(signal.SIGINT, lambda *_: print("noted"))
    future = pool.submit(tasks.note_pid_and_sleep, os.path.join(FOLDER, "busy"), 1.0)
    future.result()
    pool.shutdown()
    print("ended well")
"""
    )
    script.until("busy")
    os.killpg(script.process.pid, signal.SIGINT)
    code = script.wait(12)
    expect(code == 0 and "ended well" in script.text(), f"exit code {code}: {script.last_line()}")
    return "the task went on"


def _killed(subject: Subject, how: signal.Signals) -> str:
    script = subject.script(BUSY)
    script.until("busy")
    os.kill(script.process.pid, how)
    script.process.wait()
    left = script.left(1.0)
    expect(not left, f"{len(left)} processes are left after 1 s")
    return "none left"


@check(GROUP, "The program is killed by SIGKILL while its workers work: none is left a second later.", limit=40)
def parent_killed(subject: Subject) -> str:
    return _killed(subject, signal.SIGKILL)


@check(GROUP, "The same by SIGTERM.", limit=40)
def parent_terminated(subject: Subject) -> str:
    return _killed(subject, signal.SIGTERM)


@check(GROUP, "The same while its workers have nothing to do.", limit=40)
def parent_killed_idle(subject: Subject) -> str:
    script = subject.script(
        """
import os, time
if __name__ == "__main__":
    pool = open_pool(POOL)
    pool.submit(abs, -1).result()
    with open(os.path.join(FOLDER, "busy"), "w") as file:
        file.write("yes")
    time.sleep(60)
"""
    )
    script.until("busy")
    os.kill(script.process.pid, signal.SIGKILL)
    script.process.wait()
    left = script.left(1.0)
    expect(not left, f"{len(left)} processes are left after 1 s")
    return "none left"


@check(GROUP, "A pool that is dropped without a shutdown does its work and leaves no process.", limit=40)
def dropped_pool(subject: Subject) -> str:
    path = subject.folder / "counters"
    counters.make(path, 10)
    script = subject.script(
        """
import gc, os, time
from tricorne.testing import processes
from tricorne.testing.conduct import tasks

def work():
    pool = open_pool(POOL)
    for item in range(10):
        pool.submit(tasks.sleep_counted, os.path.join(FOLDER, "counters"), item, 0.01)

if __name__ == "__main__":
    work()
    gc.collect()
    mark = os.environ[processes.MARK]
    end = time.monotonic() + 6
    while time.monotonic() < end and len(processes.marked(mark)) > 0:
        time.sleep(0.02)
    print("left:", len(processes.marked(mark)), flush=True)
"""
    )
    script.wait(20)
    done = sum(counters.read(path))
    expect(done == 10, f"{done} of 10 tasks done")
    expect("left: 0" in script.text(), f"{script.last_line()} of its processes, 6 s later")
    return "10 of 10 tasks done, no process left"


@check(GROUP, "`shutdown` of a pool that has nothing to do takes less than a second.", attempts=3)
def shutdown_is_quick(subject: Subject) -> str:
    pool = subject.open()
    usable(pool)
    begun = time.monotonic()
    pool.shutdown()
    took = time.monotonic() - begun
    expect(took < 1, f"{took:.2f} s")
    return f"{took * 1e3:.0f} ms"
