"""CPython's own tests of futures and thread pools, and the tutorial's checks of executors, against ``tricorne.futures``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HARNESS = HERE / "conformance" / "run_cpython_suite.py"
CHECKS = HERE / "tutorial" / "run_checks.py"


def cpythons_tests() -> Path | None:
    """The ``test`` folder of a Python that has the tests of futures: this one's or that of the ``python3.13`` on the path."""
    program = "import os, test.test_concurrent_futures.util, test; print(os.path.dirname(test.__file__))"
    # A version switcher such as pyenv finds its own by the variable; everybody else ignores it.
    switch = {**os.environ, "PYENV_VERSION": "3.13"}
    for command, environment in ((sys.executable, None), ("python3.13", switch)):
        try:
            done = subprocess.run(
                [command, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return Path(done.stdout.strip())
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc")
@pytest.mark.parametrize("group", ["futures.future", "futures.thread"])
def test_cpythons_tests_pass(group: str) -> None:
    tests = cpythons_tests()
    if tests is None:
        pytest.skip("neither this Python nor a `python3.13` on the path was installed with the tests of futures")
    # The private names are in: other code relies on them all the same.
    words = ["--futures", "tricorne.futures", "--groups", group, "--test-dir", str(tests), "--include", "undocumented"]
    if sys.version_info >= (3, 13):
        # One of them needs `os.process_cpu_count`.
        words += ["--include", "private"]
    done = subprocess.run([sys.executable, str(HARNESS), *words], capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.splitlines()[-1].split()[0])
    assert passed >= (19 if group == "futures.future" else 40)


def listed() -> list[str]:
    """The tutorial's checks of executors: those behind section 2."""
    done = subprocess.run([sys.executable, str(CHECKS), "--list"], capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    return [name for section, name in rows if section[:2] in ("3.", "4.", "5.")]


@pytest.mark.parametrize("name", listed())
def test_what_the_tutorial_documents(name: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(CHECKS), "--only", name, "--futures", "tricorne.futures"),
            *("--forbid-stdlib", "--fallback", "ProcessPoolExecutor,Thread,Lock,Semaphore,Event,Queue,Process,Pool"),
        ],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
