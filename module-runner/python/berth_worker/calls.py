"""Calls that leave the worker (services_manager) and log lines: what shims reach the runner through.

The worker connects this at its start. Anywhere else (in the installer, in a process that the module has made) it stays
unconnected: logs are then printed, and calls fail with a clear error.
"""

from __future__ import annotations

import itertools
import sys

from . import process
from .frames import CALL, LOG, WINDOW, Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional

# The runner keeps at most 64 results on the way; it hears of them in parts of this size.
_ACKNOWLEDGE_EVERY = 16
_LOG_LIMIT = 1_000_000


class CallError(RuntimeError):
    """A call that failed elsewhere; ``code`` is the error's code, such as MODEL_NOT_FOUND."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Outgoing:
    """The worker's side of all outgoing calls. Results come in by ``deliver`` from the control reader's thread."""

    def __init__(self, channel: Channel, module_id: str, grants: list[str], models: dict[str, Any]) -> None:
        self.module_id = module_id
        self.models = models
        self._channel = channel
        self._grants = frozenset(grants)
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Any] = {}
        self._gone = False

    def require_grant(self, model: str) -> None:
        if model not in self._grants:
            raise PermissionError(
                f"module {self.module_id} may not call model {model!r}: add it to `calls:` in the module's module.yaml"
            )

    def results(self, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """
        Sends the call and gives its results, the last of them with ``done``. Closing the iterator early cancels the
        call. Raises PermissionError and CallError for what went wrong at the other side.
        """
        from queue import SimpleQueue

        if process.in_forked_child:
            raise CallError(
                "RUNNER_UNREACHABLE",
                "a forked process can't call other models: do it in the process that Berth started",
            )
        call_id = str(next(self._numbers))
        inbox: SimpleQueue[Any] = SimpleQueue()
        self._waiting[call_id] = inbox
        finished = False
        taken = 0
        try:
            if self._gone:
                raise CallError("RUNNER_UNREACHABLE", "the runner has gone")
            self._channel.send(CALL, {"id": call_id, **call})
            while True:
                result = inbox.get()
                taken += 1
                error = result.get("error")
                finished = error is not None or result.get("done") is True
                if error is not None:
                    raise _exception(error)
                if taken % _ACKNOWLEDGE_EVERY == 0 and not finished:
                    self._channel.send(WINDOW, {"call": call_id, "frames": _ACKNOWLEDGE_EVERY})
                yield result
                if finished:
                    return
        finally:
            del self._waiting[call_id]
            if not finished and not self._gone and not process.in_forked_child:
                self._channel.send(CALL, {"id": call_id, "kind": "cancel"})

    def value(self, call: dict[str, Any]) -> Any:
        """The result of a call that has exactly one."""
        value = None
        for result in self.results(call):
            value = result.get("value")
        return value

    def deliver(self, call_id: str, result: dict[str, Any]) -> None:
        inbox = self._waiting.get(call_id)
        if inbox is not None:
            inbox.put(result)

    def close(self) -> None:
        """Fails every call under way: the runner is gone."""
        self._gone = True
        for inbox in list(self._waiting.values()):
            inbox.put({"error": {"code": "RUNNER_UNREACHABLE", "message": "the runner has gone"}})


def _exception(error: dict[str, Any]) -> Exception:
    code = str(error.get("code", "INTERNAL"))
    message = str(error.get("message", "the call failed"))
    return PermissionError(message) if code == "FORBIDDEN" else CallError(code, message)


_channel: Optional[Channel] = None
_outgoing: Optional[Outgoing] = None


def connect(channel: Channel, outgoing: Outgoing) -> None:
    global _channel, _outgoing
    _channel = channel
    _outgoing = outgoing


def outgoing() -> Outgoing:
    if _outgoing is None:
        raise CallError("RUNNER_UNREACHABLE", "models can be called only from within a running service module")
    return _outgoing


def connected() -> bool:
    return _outgoing is not None


def log(level: str, message: str) -> None:
    """A line of the module's log. Never raises: a log line is no reason to fail."""
    text = message if len(message) <= _LOG_LIMIT else message[:_LOG_LIMIT] + " ..."
    if _channel is not None and not process.in_forked_child:
        try:
            _channel.send(LOG, {"level": level, "message": text})
            return
        except OSError:
            pass
    print(f"[{level.upper()}] {text}", file=sys.stderr, flush=True)
