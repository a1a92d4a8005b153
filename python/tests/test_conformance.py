"""CPython's own tests against our modules, by the harness in ``conformance``."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent / "conformance" / "run_cpython_suite.py"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc"),
    pytest.mark.skipif(
        importlib.util.find_spec("test") is None or importlib.util.find_spec("test.lock_tests") is None,
        reason="this Python was installed without its own tests",
    ),
]


def run_suite(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HARNESS), *words], capture_output=True, text=True, timeout=540, check=False
    )


# The private names and protocols are in: other code relies on them all the same.
INCLUDED = ("--include", "private", "--include", "interop", "--include", "undocumented")


@pytest.mark.parametrize("family", ["locks", "queue"])
def test_cpythons_tests_pass(family: str) -> None:
    module = {"locks": "tricorne.threading", "queue": "tricorne.queue"}[family]
    done = run_suite(f"--{family}", module, *INCLUDED, "--skips", str(HARNESS.parent / "ours.toml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_harness_sees_a_planted_fault() -> None:
    done = run_suite("--locks", "broken", "--path", str(HARNESS.parent / "peers"), "--groups", "locks.Lock", "--quiet")
    assert done.returncode == 1
    assert "failed" in done.stdout.splitlines()[-1]
