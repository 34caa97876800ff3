"""Exceptions of the module as errors on the wire: code, message, traceback."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


_MESSAGE_LIMIT = 8_000
_TRACEBACK_LIMIT = 64_000
_OUT_OF_MEMORY_TEXTS = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "HIP out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class WorkerError(Exception):
    """An error that is already in wire terms."""

    def __init__(self, code: str, message: str, details: Optional[dict[str, Any]] = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details or {}


class UnfitError(WorkerError):
    """SERVICE_INFERENCE gave something that can't be sent."""

    def __init__(self, message: str) -> None:
        super().__init__("INFERENCE_FAILED", message)


def wire_error(code: str, message: str, details: Optional[dict[str, Any]] = None) -> dict[str, Any]:
    error: dict[str, Any] = {
        "code": code,
        "message": _clip(message, _MESSAGE_LIMIT),
        "retryable": False,
        "origin": "module",
    }
    if details:
        error["details"] = details
    return error


def from_exception(exception: BaseException, code: str, what: str, about: dict[str, Any]) -> dict[str, Any]:
    """
    The wire form of an exception that module code raised; ``what`` says what Berth was doing, ``about`` names the
    module and what else it was about.
    """
    if isinstance(exception, UnfitError):
        return wire_error(exception.code, f"{what}: {exception.args[0]}", about)
    if isinstance(exception, WorkerError):
        return wire_error(exception.code, exception.args[0], {**about, **exception.details})
    if is_out_of_memory(exception):
        code = "OUT_OF_MEMORY"
    details = {**about, **_place(exception), "traceback": traceback_of(exception)}
    return wire_error(code, f"{what}: {describe(exception)}", details)


def describe(exception: BaseException) -> str:
    """One line for people. Never raises, whatever the exception's own ``__str__`` does."""
    name = type(exception).__name__
    try:
        text = str(exception)
    except Exception:
        text = "(its text can't be read)"
    if isinstance(exception, SystemExit):
        return f"the module called sys.exit({text})"
    return f"{name}: {text}" if text else name


def _place(exception: BaseException) -> dict[str, Any]:
    """Where a file can't be read as Python."""
    if not isinstance(exception, SyntaxError) or exception.filename is None:
        return {}
    return {"file": exception.filename, "line": exception.lineno}


def is_out_of_memory(exception: BaseException) -> bool:
    """MemoryError, or a GPU framework's way to say it, also as the cause of another exception."""
    current: Optional[BaseException] = exception
    for _ in range(8):
        if current is None:
            return False
        if isinstance(current, MemoryError) or type(current).__name__ == "OutOfMemoryError":
            return True
        text = describe(current)
        if any(known in text for known in _OUT_OF_MEMORY_TEXTS):
            return True
        current = current.__cause__ or current.__context__
    return False


def traceback_of(exception: BaseException) -> str:
    """The traceback without the worker's own frames at its top."""
    import os
    import traceback

    own = os.path.dirname(os.path.abspath(__file__)) + os.sep
    entry = exception.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith(own):
        entry = entry.tb_next
    try:
        lines = traceback.format_exception(type(exception), exception, entry)
    except Exception:
        return describe(exception)
    text = "".join(lines)
    return text if len(text) <= _TRACEBACK_LIMIT else "...\n" + text[-_TRACEBACK_LIMIT:]


def _clip(text: str, limit: int) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[:limit] + " ..."
