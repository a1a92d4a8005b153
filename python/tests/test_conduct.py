"""How the process pool behaves when something goes wrong, by the checks of ``tricorne.testing``; and that they see what they should."""

import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tricorne.futures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the checks read /proc")

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/process-pools.md"

ours = pytest.mark.skipif(
    tricorne.futures.ProcessPoolExecutor is concurrent.futures.ProcessPoolExecutor, reason="here the pool is the standard library's"
)


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


@ours
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


@ours
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


def table(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tricorne.testing.conduct.table", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_table_of_the_document_lists_the_checks() -> None:
    done = table(str(DOCUMENT), "--check")
    assert done.returncode == 0, done.stderr


def test_a_table_that_is_not_current_is_seen(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    copy = tmp_path / "document.md"
    copy.write_text(text.replace("A lambda can be sent.", "A lambda cannot be sent."), encoding="utf-8")
    assert table(str(copy), "--check").returncode == 1
    code, verdicts = conduct("--impl", "stdlib", "lambdas")
    assert code == 1 and verdicts[0]["result"] == "fail"
    path = tmp_path / "verdicts.jsonl"
    for result, expected in (("fail", 0), ("pass", 1)):
        path.write_text(json.dumps({**verdicts[0], "result": result}), encoding="utf-8")
        assert table(str(DOCUMENT), str(path), "--check").returncode == expected


@ours
def test_the_table_of_the_document_is_current(deep: bool, tmp_path: Path) -> None:
    if not deep:
        pytest.skip("it runs all checks again: one of the deep tests")
    _, verdicts = conduct("--impl", "tricorne", timeout=540)
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps(verdict) + "\n" for verdict in verdicts), encoding="utf-8")
    done = table(str(DOCUMENT), str(path), "--check")
    assert done.returncode == 0, done.stderr
