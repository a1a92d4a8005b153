"""Runs the Python benchmarks: ``python run.py [--rounds N] [NAME]``, NAME being a part of a benchmark's name.

`cargo xtask bench python` builds the module in release mode and runs this on every interpreter it finds.
"""

import argparse
import itertools

import futures
import harness
import primitives
import queues


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="only benchmarks whose name contains this")
    parser.add_argument("--rounds", type=int, default=7, help="how often each implementation has its turn")
    options = parser.parse_args()
    harness.run(itertools.chain(primitives.benches(), queues.benches(), futures.benches()), options.rounds, options.name)


if __name__ == "__main__":
    main()
