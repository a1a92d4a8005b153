"""The process pool: for now the standard library's."""

from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]
