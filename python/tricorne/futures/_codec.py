"""What travels between a process pool and its workers: pickles, and large buffers beside them.

What pickle can name is sent by name. What it cannot (lambdas, closures, and all that was defined in ``__main__``, which a worker does
not run) goes by value, with cloudpickle.
"""

import os
import pickle
import traceback
import types
from collections.abc import Sequence
from typing import Any

from tricorne.errors import RemoteError

Pickled = tuple[bytes, list[memoryview]]

# Smaller buffers stay in the pickle: they are copied once more, which costs less than a message of their own.
_LARGE_BYTES = 64 * 1024

# A pickle that names this module has to be made by value. In a text it only costs time.
_MAIN = b"__main__"

_CHAIN_LIMIT = 16
"""So many exceptions of a chain are sent."""


def dumps(value: object) -> Pickled:
    """Pickle a value. Raises what its own methods raise, and :class:`pickle.PicklingError`."""
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            # Not contiguous.
            return True
        if raw.nbytes < _LARGE_BYTES:
            return True
        buffers.append(raw)
        return False

    try:
        payload = pickle.dumps(value, 5, buffer_callback=keep)
        if _MAIN not in payload:
            return payload, buffers
    except Exception:
        # By value, if that can be done; what it raises says more than what was raised here.
        pass
    import cloudpickle  # type: ignore[import-untyped]

    buffers.clear()
    return cloudpickle.dumps(value, 5, buffer_callback=keep), buffers


def load_result(payload: Any, buffers: Sequence[Any] = ()) -> Any:
    """Unpickle what a task has returned."""
    return pickle.loads(payload, buffers=buffers)


def is_named(function: object) -> bool:
    """Whether it is a function or class that stays as it is, and that a worker can import."""
    if isinstance(function, types.BuiltinFunctionType):
        if not isinstance(function.__self__, (types.ModuleType, type(None))):
            return False
    elif not isinstance(function, (types.FunctionType, type)):
        return False
    try:
        return _MAIN not in pickle.dumps(function, 5)
    except Exception:
        return False


# What a function refers to and what never changes.
_FIXED: tuple[type, ...] = (int, float, complex, str, bytes, bool, type(None), types.ModuleType, types.BuiltinFunctionType)


def fixed_parts(function: object) -> tuple[object, ...] | None:
    """All that a function without a name refers to, if none of it can change in itself; the same parts mean the same function."""
    if not isinstance(function, types.FunctionType) or function.__dict__:
        return None
    code = function.__code__
    if any(isinstance(constant, types.CodeType) for constant in code.co_consts):
        return None
    names = function.__globals__
    parts: list[object] = [names[name] for name in code.co_names if name in names]
    try:
        parts += [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:
        return None
    parts += function.__defaults__ or ()
    parts += (function.__kwdefaults__ or {}).values()
    return (code, *parts) if all(type(part) in _FIXED for part in parts) else None


def is_same(some: tuple[object, ...] | None, others: tuple[object, ...] | None) -> bool:
    """Whether two results of :func:`fixed_parts` are of the same function."""
    if some is None or others is None or len(some) != len(others):
        return False
    return all(one is other for one, other in zip(some, others))


# Exceptions


class _RemoteTraceback(Exception):
    """Where a worker process raised an exception: its cause. ``tb`` is the traceback as the worker printed it."""

    def __init__(self, tb: str, pid: int | None = None) -> None:
        super().__init__(tb, pid)
        self.tb = tb
        self.pid = pid

    def __str__(self) -> str:
        # The whole text, as the standard library's: programs look into it, although the frames are those of the exceptions around it.
        where = "" if self.pid is None else f"in worker process {self.pid}"
        return f'{where}\n"""\n{self.tb}"""'


_RemoteTraceback.__module__ = "tricorne.futures.process"

UNREAD = b"U"
"""The first byte of a failure: the task could not be unpickled."""
RAISED = b"E"
"""The first byte of a failure: the task raised."""
TEXT = b"T"
"""The first byte of a failure: only words are left of it."""


def pack_failure(raised: BaseException, kind: bytes, own_frames: int) -> bytes:
    """What a worker sends of an exception; so many of its outermost frames are the worker's own."""
    traceback_ = raised.__traceback__
    for _ in range(own_frames):
        traceback_ = traceback_ and traceback_.tb_next
    # As if it had been raised there.
    try:
        text = "".join(traceback.format_exception(type(raised), raised, traceback_))
    except Exception:
        text = f"{_name_of(type(raised))}\n"
    chain: list[tuple[bytes | None, str, str, list[tuple[str, int, str]]]] = []
    link: BaseException | None = raised
    seen: set[int] = set()
    while link is not None and id(link) not in seen and len(chain) < _CHAIN_LIMIT:
        seen.add(id(link))
        frames = [
            (frame.filename, frame.lineno or 1, frame.name)
            for frame in traceback.extract_tb(traceback_ if link is raised else link.__traceback__)
        ]
        chain.append((_pack_exception(link), _name_of(type(link)), _text_of(link), frames))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return kind + pickle.dumps((os.getpid(), text, chain), 5)


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text_of(raised: BaseException) -> str:
    try:
        return str(raised)
    except Exception:
        return ""


def _pack_exception(raised: BaseException) -> bytes | None:
    try:
        payload = pickle.dumps(raised, 5)
        if _MAIN not in payload:
            return payload
    except Exception:
        pass
    try:
        import cloudpickle

        return bytes(cloudpickle.dumps(raised, 5))
    except Exception:
        return None


def unpack_failure(payload: bytes) -> BaseException:
    """The exception that a worker has sent, its causes, and the frames that they were raised in."""
    if payload[:1] == TEXT:
        return RemoteError(payload[1:].decode(errors="replace"))
    pid, text, chain = pickle.loads(memoryview(payload)[1:])
    cause: BaseException | None = None
    for index, (packed, name, message, frames) in reversed(list(enumerate(chain))):
        raised = _unpack_exception(packed, name, message)
        raised.__traceback__ = _frames(frames)
        if index == 0:
            remote = _RemoteTraceback(f"{text}", pid)
            remote.__cause__ = cause
            cause = remote
        raised.__cause__ = cause
        cause = raised
    assert cause is not None
    return cause


def _unpack_exception(packed: bytes | None, name: str, message: str) -> BaseException:
    if packed is not None:
        try:
            raised = pickle.loads(packed)
            if isinstance(raised, BaseException):
                return raised
        except Exception:
            # It comes as text.
            pass
    return RemoteError(f"{name}: {message}" if message else name)


_RAISE = compile("raise ValueError", "", "exec")


def _frames(frames: Sequence[tuple[str, int, str]]) -> types.TracebackType | None:
    """A traceback through these places (file, line, function)."""
    following: types.TracebackType | None = None
    for filename, line, name in reversed(frames):
        code = _RAISE.replace(co_filename=filename, co_name=name, co_qualname=name, co_firstlineno=line)
        try:
            exec(code, {"__name__": "remote", "__file__": filename})
        except ValueError as raised:
            here = raised.__traceback__
            assert here is not None and here.tb_next is not None
            # Without an instruction there are no columns to be underlined.
            following = types.TracebackType(following, here.tb_next.tb_frame, -1, line)
            del here
    return following
