"""The package as it is installed: version, metadata, the command in both its forms."""

import subprocess
import sys
import sysconfig
from importlib import metadata, resources
from pathlib import Path

import pytest

import tricorne

SCRIPT = Path(sysconfig.get_path("scripts")) / "tricorne"
COMMANDS = [[sys.executable, "-m", "tricorne"], [str(SCRIPT)]]


def call(command: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)


def test_one_version_everywhere() -> None:
    assert tricorne.__version__ == metadata.version("tricorne")
    assert call(COMMANDS[0], "--version").stdout == f"tricorne {tricorne.__version__}\n"


def test_the_package_is_typed_and_carries_its_licences() -> None:
    assert resources.files("tricorne").joinpath("py.typed").is_file()
    assert resources.files("tricorne").joinpath("_native.pyi").is_file()
    names = {path.name for path in metadata.files("tricorne") or []}
    # The last one is among those of the demo's pages, which the module carries.
    assert {"LICENSE-APACHE", "LICENSE-MIT", "MPL-2.0.txt"} <= names
    assert metadata.metadata("tricorne")["License-Expression"] == "MIT OR Apache-2.0"


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "script"])
def test_the_command_runs_a_plan(command: list[str], plan: Path) -> None:
    done = call(command, "run", str(plan), "--progress", "none")
    assert (done.returncode, done.stderr) == (0, "")
    assert len((plan.parent / "out" / "shard-00000.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "script"])
def test_the_command_refuses_with_exit_code_2(command: list[str], tmp_path: Path) -> None:
    done = call(command, "run", str(tmp_path / "none.toml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.toml" in done.stderr


def test_the_command_prints_after_what_python_printed(plan: Path) -> None:
    program = "import sys; sys.argv[1:] = ['check', sys.argv[1]]; print('first'); import tricorne.__main__ as m; sys.exit(m.main())"
    done = call([sys.executable, "-c", program], str(plan))
    assert done.returncode == 0
    assert done.stdout.startswith("first\n")
    assert "[sink]" in done.stdout
