"""Which functions can be sent, and from where."""

import subprocess
import sys

from tricorne.testing.conduct.check import Script, Subject, check, expect, fail, outcome

GROUP = "Functions"


@check(GROUP, "A lambda can be sent.", limit=25)
def lambdas(subject: Subject) -> str:
    with subject.open() as pool:
        value, raised = outcome(pool.submit(lambda number: number + 1, 2))
    expect(value == 3, f"{type(raised).__name__}: {raised}"[:100])
    return "sent"


@check(GROUP, "A closure can be sent, and brings what it refers to.", limit=25)
def closures(subject: Subject) -> str:
    offset = 40

    def add(number: int) -> int:
        return number + offset

    with subject.open() as pool:
        value, raised = outcome(pool.submit(add, 2))
    expect(value == 42, f"{type(raised).__name__}: {raised}"[:100])
    return "sent"


def _ends(script: Script) -> str:
    code = script.wait(15)
    text = script.text()
    if code == 0 and text.strip().endswith("42"):
        expect(not script.left(2), "processes are left")
        return "works"
    clear = "__main__" in text and len(text.splitlines()) < 60
    expect(clear, f"exit code {code}: {script.last_line()}")
    return f"a clear error: {script.last_line()}"


@check(GROUP, "A script without `if __name__ == \"__main__\"` works, or says at once what to do.", limit=30)
def no_main_guard(subject: Subject) -> str:
    return _ends(
        subject.script(
            """
def add(a, b):
    return a + b

with open_pool(POOL) as pool:
    print(pool.submit(add, 40, 2).result())
"""
        )
    )


@check(GROUP, "Classes of the script itself go to workers and come back.", limit=30)
def classes_of_main(subject: Subject) -> str:
    return _ends(
        subject.script(
            """
import dataclasses

@dataclasses.dataclass
class Point:
    x: int

def move(point):
    return Point(point.x + 2)

if __name__ == "__main__":
    with open_pool(POOL) as pool:
        back = pool.submit(move, Point(40)).result()
    assert back == Point(42) and type(back) is Point, back
    print(back.x)
"""
        )
    )


@check(GROUP, "The script is not run a second time by its workers.", limit=30)
def main_runs_once(subject: Subject) -> str:
    script = subject.script(
        """
import os
os.close(os.open(os.path.join(FOLDER, f"ran-{os.getpid()}"), os.O_CREAT))

def add(a, b):
    return a + b

if __name__ == "__main__":
    with open_pool(POOL) as pool:
        print(pool.submit(add, 40, 2).result())
"""
    )
    expect(script.wait(15) == 0, f"failed: {script.last_line()}")
    times = len(list(subject.folder.glob("ran-*")))
    expect(times == 1, f"was run {times} times")
    return "once"


@check(GROUP, "Functions typed at a prompt or in a notebook can be sent.", limit=30)
def functions_without_a_file(subject: Subject) -> str:
    program = f"""
from tricorne.testing.pools import open_pool
def add(a, b):
    return a + b
pool = open_pool({subject.name!r})
print(pool.submit(add, 40, 2).result())
pool.shutdown()
"""
    try:
        done = subprocess.run(
            [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=15, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        fail("still there after 15 s")
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    expect(done.stdout.strip() == "42", f"exit code {done.returncode}: {last}"[:120])
    return "sent"
