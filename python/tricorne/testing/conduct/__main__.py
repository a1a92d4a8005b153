"""``python -m tricorne.testing.conduct``: how a process pool behaves, one line for each check.

Exit code: 0 if no check failed, 1 if one did, 2 if the checks could not be run (an unknown name, an implementation that is not installed).
With ``--json`` each line is an object: ``{"impl", "version", "python", "group", "check", "claim", "result", "evidence", "secs"}``, where
``result`` is ``pass``, ``fail`` or ``not offered``.
"""

import argparse
import json
import sys

from tricorne.testing.conduct import run
from tricorne.testing.pools import IMPLEMENTATIONS


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tricorne.testing.conduct", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="only these checks")
    parser.add_argument("--impl", action="append", choices=list(IMPLEMENTATIONS), help="whose pool (default: tricorne); may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--list", action="store_true", help="list the checks and what each claims")
    options = parser.parse_args()
    checks = run.all_checks()
    if options.list:
        for check in checks.values():
            print(f"{check.name:<28} {check.group}: {check.claim}")
        return 0
    for name in options.checks:
        if name not in checks:
            parser.error(f"no check `{name}`; --list has their names")
    worst = 0
    for name in options.impl or ["tricorne"]:
        if IMPLEMENTATIONS[name].version() is None:
            print(f"`{name}` is not installed", file=sys.stderr)
            worst = 2
            continue
        for check in [checks[chosen] for chosen in options.checks] or checks.values():
            verdict = run.run(name, check)
            if verdict.result == "fail":
                worst = max(worst, 1)
            if options.json:
                print(json.dumps(verdict._asdict()), flush=True)
            else:
                print(f"{name:<9} {check.name:<28} {verdict.result:<12} {verdict.evidence}", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
