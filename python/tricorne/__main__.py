"""The ``tricorne`` command: ``python -m tricorne``, or the script that comes with the package."""

import sys

from tricorne import _native


def main() -> int:
    """Run the command with the arguments of this process and return its exit code."""
    # The command writes to the file descriptors themselves: what Python still holds back has to come first.
    sys.stdout.flush()
    return _native.main(["tricorne", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
