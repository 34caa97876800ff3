"""The worker's frame: control connection, the main thread's jobs, slots.

The main thread imports, loads and offloads, because modules may insist on it; a thread reads the control connection;
each slot has a thread of its own.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from queue import SimpleQueue

from . import calls, process
from .errors import from_exception
from .frames import ANSWER, ENDED, HELLO, LOAD, OFFLOAD, OPEN, QUIT, RESULT, STATUS, Channel, json_frame
from .module import ServiceModule
from .slot import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

_DEFAULT_OFFLOAD_MS = 30_000
_EXIT_HOOKS_SECONDS = 5.0
_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*("[^"\\]*"|\d+)')


def run() -> None:
    """The whole life of the worker. Does not return."""
    process.prepare()
    with open(os.environ.pop("BERTH_WORKER_CONFIG"), encoding="utf-8") as file:
        configuration = json.load(file)
    worker = Worker(
        os.environ.pop("BERTH_WORKER_SOCKET"), os.environ.pop("BERTH_WORKER_TOKEN"), configuration, os.urandom(16).hex()
    )
    worker.run()


class Worker:
    def __init__(self, path: str, token: str, configuration: dict[str, Any], nonce: str) -> None:
        self._path = path
        self._token = token
        self._nonce = nonce
        self._offload_seconds = configuration.get("callMs", _DEFAULT_OFFLOAD_MS) / 1000
        self._service = ServiceModule(configuration)
        self._failure: Optional[dict[str, Any]] = None
        self._import_ended = threading.Event()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        hello = {"role": "control", "pid": os.getpid(), "python": sys.version.split()[0], "attachmentNonce": nonce}
        self._channel = Channel(self._connect(hello))
        self._outgoing = calls.Outgoing(
            self._channel, self._service.id, configuration.get("calls") or [], self._service.models
        )
        calls.connect(self._channel, self._outgoing)

    def run(self) -> None:
        threading.Thread(target=self._read_control, name="berth-control", daemon=True).start()
        self._import()
        while True:
            job = self._jobs.get()
            job()
            process.end_forked_child()

    def _import(self) -> None:
        try:
            self._service.import_entry()
        except BaseException as exception:  # sys.exit at import is the module's failure, not the worker's end
            process.end_forked_child()
            what = f"module {self._service.id} can't be imported"
            self._failure = from_exception(exception, "LOAD_FAILED", what, self._about(self._service.entry))
            self._import_ended.set()
            self._channel.send(STATUS, {"state": "failed", "error": self._failure})
            return
        process.end_forked_child()
        self._import_ended.set()
        self._channel.send(STATUS, {"state": "imported"})

    def _about(self, file: Optional[str]) -> dict[str, Any]:
        """What the details of an error name."""
        return {"module": self._service.id} if file is None else {"module": self._service.id, "file": file}

    def _import_failure(self) -> Optional[dict[str, Any]]:
        if not self._import_ended.is_set():
            self._import_ended.wait()
        return self._failure

    def _read_control(self) -> None:
        try:
            while True:
                kind, body = self._channel.receive()
                self._control(kind, body)
        except (EOFError, OSError):
            # The runner has gone.
            return
        finally:
            self._outgoing.close()
            self._quit_within(self._offload_seconds, 1)

    def _control(self, kind: bytes, body: bytearray) -> None:
        if kind == QUIT:
            self._jobs.put(lambda: self._quit(0))
            return
        if kind not in (LOAD, OFFLOAD, OPEN, RESULT):
            return
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as reason:
            self._refuse(body, reason)
            return
        if kind == RESULT:
            self._outgoing.deliver(message["call"], message["frame"])
        elif kind == OPEN:
            threading.Thread(target=self._serve_slot, args=(message["open"],), name="berth-slot", daemon=True).start()
        elif kind == LOAD:
            models = message["models"]
            what = f"module {self._service.id}: loading {', '.join(models)} failed"
            self._jobs.put(lambda: self._do(message["id"], "loaded", what, lambda: self._service.load(models)))
        else:
            names = message["models"]
            what = f"module {self._service.id}: offloading {', '.join(names)} failed"
            self._jobs.put(lambda: self._do(message["id"], "offloaded", what, lambda: self._service.offload(names)))

    def _refuse(self, body: bytearray, reason: Exception) -> None:
        """Answers a message that can't be parsed, if only its id can be found."""
        found = _ID.match(body)
        error = from_exception(reason, "REQUEST_INVALID", "the request can't be read", self._about(None))
        if found is None:
            calls.log("error", error["message"])
        else:
            self._channel.send(ANSWER, {"id": json.loads(found.group(1)), "error": error})

    def _do(self, job_id: Any, verb: str, what: str, act: Callable[[], list[str]]) -> None:
        """One load or offload, in the main thread."""
        if self._failure is not None:
            self._channel.send(ANSWER, {"id": job_id, "error": self._failure})
            return
        try:
            answer: dict[str, Any] = {"id": job_id, "ok": {verb: act()}}
        except BaseException as exception:  # sys.exit in a load is the load's failure, not the worker's end
            answer = {"id": job_id, "error": from_exception(exception, "LOAD_FAILED", what, self._about(None))}
        process.end_forked_child()
        self._channel.send(ANSWER, answer)

    def _serve_slot(self, slot_id: Any) -> None:
        try:
            connection = self._connect({"role": "slot", "slot": slot_id})
        except OSError:
            return
        slot = Slot(connection, self._service, self._nonce, self._import_failure)
        try:
            slot.serve()
        finally:
            try:
                self._channel.send(ENDED, {"slot": slot_id})
            except OSError:
                # The runner is gone, and the process will follow.
                pass

    def _connect(self, hello: dict[str, Any]) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Modules may have set a default for sockets of their own.
        connection.settimeout(None)
        connection.connect(self._path)
        process.keep_from_children(connection)
        connection.sendall(json_frame(HELLO, {**hello, "token": self._token}))
        return connection

    def _quit_within(self, seconds: float, status: int) -> None:
        """From the control thread: offload if the main thread is free for it, but be gone in time."""
        self._jobs.put(lambda: self._quit(status))
        limit = threading.Timer(seconds, process.leave, (status,))
        limit.daemon = True
        limit.start()

    def _quit(self, status: int) -> None:
        try:
            self._service.offload_all()
        except BaseException as exception:  # the end comes anyway
            calls.log("warning", f"module {self._service.id}: the offload at the end failed: {exception!r}")
        process.end_forked_child()
        limit = threading.Timer(_EXIT_HOOKS_SECONDS, process.leave, (status,))
        limit.daemon = True
        limit.start()
        process.run_exit_hooks()
        process.leave(status)
