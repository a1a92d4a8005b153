"""Ctrl-C during a run: soon, as KeyboardInterrupt, and the run can go on later."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from held_server import HeldServer

from tricorne import Pipeline

PROGRAM = """
import sys, time
from tricorne import Pipeline
try:
    Pipeline.from_toml(sys.argv[1]).run()
except KeyboardInterrupt:
    print("interrupted", time.monotonic())
"""


def interrupt(command: list[str], server: HeldServer) -> tuple[subprocess.CompletedProcess[str], float]:
    """Starts a command, sends it the signal once it waits for the server, and says when the signal was sent."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert server.asked.wait(60)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr), sent


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_ctrl_c_ends_a_run_and_the_run_goes_on_later(held_plan: Path, held_server: HeldServer) -> None:
    done, sent = interrupt([sys.executable, "-c", PROGRAM, str(held_plan)], held_server)
    assert (done.returncode, done.stderr) == (0, "")
    word, when = done.stdout.split()
    assert word == "interrupted"
    # A tenth of a second on a calm machine; the bound leaves room for a busy one, and is far below every time-out of the fetch.
    assert float(when) - sent < 2

    held_server.released.set()
    report = Pipeline.from_toml(held_plan).run()
    assert (report["rows"], report["interrupted"]) == (4, False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent another way there")
def test_ctrl_c_ends_the_command_with_its_exit_code(held_plan: Path, held_server: HeldServer) -> None:
    done, _ = interrupt([sys.executable, "-m", "tricorne", "run", str(held_plan), "--progress", "none"], held_server)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
