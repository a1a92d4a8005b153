"""The Python examples of the documents run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def examples(name: str) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("document", "number"),
    [(name, number) for name in ("docs/python.md", "README.md", "README.zh-CN.md") for number in range(len(examples(name)))],
)
def test_the_example_runs(document: str, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", examples(document)[number]], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
