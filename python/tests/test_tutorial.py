"""What the tutorial that this project came from documents, by the checks in ``tutorial``."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).parent / "tutorial" / "run_checks.py"


def listed() -> list[str]:
    """The checks of the primitives and the queue: sections 1 and 2."""
    done = subprocess.run([sys.executable, str(CHECKS), "--list"], capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    return [name for section, name in rows if section.startswith(("1.", "2."))]


@pytest.mark.parametrize("name", listed())
def test_what_the_tutorial_documents(name: str) -> None:
    # `Thread` is the standard library's: the module adds nothing to it.
    done = subprocess.run(
        [
            *(sys.executable, str(CHECKS), "--only", name),
            *("--threading", "tricorne.threading", "--queue", "tricorne.queue"),
            *("--forbid-stdlib", "--fallback", "Thread"),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
