"""The exceptions of Tricorne.

Each also inherits the standard exception that callers already catch. What the system refuses (a file that cannot be read or
written) stays a plain :class:`OSError`.
"""

__all__ = ["PlanError", "RunError", "TricorneError"]


class TricorneError(Exception):
    """The base of every exception that Tricorne defines."""


class PlanError(TricorneError, ValueError):
    """A plan is wrong: its text says which line, what is allowed there, and what to do."""


class RunError(TricorneError, RuntimeError):
    """A run could not start or go on. What it had committed stays, and the same run goes on from there."""
