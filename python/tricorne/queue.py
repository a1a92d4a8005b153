"""Queues between threads and asyncio tasks: a drop-in for :mod:`queue`.

`Queue`, `LifoQueue`, `PriorityQueue` and `SimpleQueue` behave as their namesakes, on every Python version with ``shutdown`` and `ShutDown`
as Python 3.13 has them. `Empty` and `Full` are the standard library's own, and so is `ShutDown` where it has one.

What they do beyond that:

* ``get_async``, ``put_async`` and ``join_async`` for :mod:`asyncio` tasks, which stand in one line with the threads.
* ``put_many`` and ``get_many`` move several items in one call.
* ``stats()`` says what went through and how long callers waited.

Time limits are in seconds.

Subclasses may override the hooks ``_init``, ``_put``, ``_get`` and ``_qsize``, and code may use the attributes ``queue``, ``mutex``, ``not_empty``,
``not_full`` and ``all_tasks_done``. A queue of which somebody asks for these keeps its items in a Python container from then on, and works as
the standard library's does, which is slower.
"""

import sys
from queue import Empty, Full

from tricorne._native import LifoQueue, PriorityQueue, Queue, QueueStats, SimpleQueue

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """Raised by ``put`` and ``get`` of a queue that was shut down."""


__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "QueueStats", "ShutDown", "SimpleQueue"]
