"""Runs a check in a process of its own, with a hard limit, and ends whatever is left of it."""

import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from tricorne.testing import processes
from tricorne.testing.conduct import company, crashes, ends, functions, payloads
from tricorne.testing.conduct.check import CHECKS, Check, Failed, NotOffered, Subject
from tricorne.testing.pools import IMPLEMENTATIONS

GROUPS = (crashes.GROUP, payloads.BAD, payloads.LARGE, functions.GROUP, company.TIME, company.MAP, company.COMPANY, ends.GROUP)
"""The groups of checks in the order of the documents."""


class Verdict(NamedTuple):
    """What came of a check."""

    impl: str
    version: str | None
    python: str
    group: str
    check: str
    claim: str
    result: str
    """``pass``, ``fail`` or ``not offered``."""
    evidence: str
    secs: float


def all_checks() -> dict[str, Check]:
    """All checks by name, group by group."""
    return dict(sorted(CHECKS.items(), key=lambda item: GROUPS.index(item[1].group)))


def run(impl: str, check: Check) -> Verdict:
    """Run one check and return what came of it."""
    begun = time.monotonic()
    result, evidence = "fail", "not run"
    for _ in range(check.attempts):
        result, evidence = _attempt(impl, check)
        if result != "fail":
            break
    implementation = IMPLEMENTATIONS[impl]
    return Verdict(
        impl,
        implementation.version(),
        platform.python_version(),
        check.group,
        check.name,
        check.claim,
        result,
        evidence,
        round(time.monotonic() - begun, 2),
    )


def _attempt(impl: str, check: Check) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="conduct-", ignore_cleanup_errors=True) as folder:
        return _attempt_in(folder, impl, check)


def _attempt_in(folder: str, impl: str, check: Check) -> tuple[str, str]:
    mark = f"conduct-{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tricorne.testing.conduct.run", impl, check.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, processes.MARK: mark, "TMPDIR": folder},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        # What is left of it may hold the pipe open, so it is read only as far as the verdict.
        lines = _read_lines(process, check.limit)
    finally:
        processes.kill_marked(mark)
        # Its scripts have marks of their own, which begin with this one.
        _kill_scripts(mark)
        process.kill()
        process.wait()
        process.stdout.close()
    for line in reversed(lines):
        if line.startswith('{"result"'):
            said = json.loads(line)
            return said["result"], said["evidence"]
    if process.returncode == -signal.SIGKILL:
        return "fail", f"hangs: killed after {check.limit:g} s"
    return "fail", f"its process ended with {process.returncode} and no verdict"


def _read_lines(process: subprocess.Popen[bytes], limit: float) -> list[str]:
    assert process.stdout is not None
    end = time.monotonic() + limit
    data = b""
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < end:
            if selector.select(0.05):
                more = process.stdout.read()
                if more == b"":
                    process.wait(max(0.0, end - time.monotonic()))
                    break
                data += more or b""
            if b'{"result"' in data and data.endswith(b"\n"):
                break
            if process.poll() is not None:
                data += process.stdout.read() or b""
                break
    return data.decode("utf-8", "replace").splitlines()


def _kill_scripts(mark: str) -> None:
    wanted = f"{processes.MARK}={mark}-script".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"{entry.path}/environ", "rb") as file:
                environment = file.read()
            if wanted in environment:
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def main(impl: str, name: str) -> None:
    """Run one check in this process, print the verdict as JSON, and leave without waiting for anything."""
    # A shell ignores it for what it starts in the background, and that would be inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    subject = Subject(impl)
    try:
        evidence = CHECKS[name].run(subject)
        result = "pass"
    except Failed as failed:
        result, evidence = "fail", str(failed)
    except NotOffered as reason:
        result, evidence = "not offered", str(reason)
    except BaseException as raised:
        result, evidence = "fail", f"{type(raised).__name__}: {raised}"[:160]
    print("\n" + json.dumps({"result": result, "evidence": " ".join(evidence.split())}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
