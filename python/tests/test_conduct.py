"""How the process pool behaves when something goes wrong, by the checks of ``tricorne.testing``; and that they see what they should."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the checks read /proc")

ROOT = Path(__file__).parents[2]


def conduct(*words: str, timeout: float = 300) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-m", "tricorne.testing.conduct", "--json", *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def listed() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tricorne.testing.conduct", "--list"], capture_output=True, text=True, timeout=60, check=True
    )
    return [line.split()[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", listed())
def test_our_pool_behaves(name: str) -> None:
    code, verdicts = conduct("--impl", "tricorne", name)
    assert [verdict["result"] for verdict in verdicts] in (["pass"], ["not offered"]), verdicts
    assert code == 0
    if verdicts[0]["result"] == "not offered":
        pytest.skip(verdicts[0]["evidence"])


def test_the_checks_see_what_the_standard_pool_does() -> None:
    # A crash that costs everything, a lambda that cannot be sent, and a worker that hangs on a lock that was copied when held.
    expected = {"abort_spares_the_rest": "fail", "lambdas": "fail", "unpicklable_argument": "pass", "memory_limit": "not offered"}
    if sys.version_info < (3, 14):
        expected["locks_are_not_inherited"] = "fail"
    code, verdicts = conduct("--impl", "stdlib", *expected)
    assert {verdict["check"]: verdict["result"] for verdict in verdicts} == expected, verdicts
    assert code == 1


def test_an_unknown_check_is_refused() -> None:
    assert conduct("no_such_check") == (2, [])


def test_chaos(deep: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tricorne.testing.chaos", "--tasks", "100000" if deep else "4000", "--json"],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] and report["kills"] > 0


def test_chaos_sees_a_pool_that_breaks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tricorne.testing.chaos", "--impl", "stdlib", "--tasks", "4000", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert not json.loads(done.stdout)["passed"]
