"""One slot: a connection and a thread of its own, serving one inference after the other."""

from __future__ import annotations

import json
import socket
from types import GeneratorType

from . import calls, conversation, process
from .encode import CHUNK_KEYS, DONE_FRAME, Encoder, error_frame, require_dict, text_frame
from .errors import WorkerError, describe, from_exception
from .frames import INFER, read_into, unpack_length
from .module import ServiceModule
from .streams import as_iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

_BUFFER = 16 * 1024
_parse = json.JSONDecoder().raw_decode


class Gone(Exception):
    """The runner has closed this slot: it is no longer interested."""


class Slot:
    """``failure`` waits for the module's import and gives the error that answers every request if it failed."""

    def __init__(
        self,
        connection: socket.socket,
        service: ServiceModule,
        nonce: str,
        failure: Callable[[], Optional[dict[str, Any]]],
    ) -> None:
        self._connection = connection
        self._service = service
        self._encoder = Encoder(nonce)
        self._buffer = bytearray(_BUFFER)
        self._failure = failure

    def serve(self) -> None:
        """Until the runner closes the connection."""
        try:
            while self._answer_next():
                pass
        except Gone:
            return
        finally:
            process.end_forked_child()
            process.forget(self._connection)
            self._connection.close()

    def _next_request(self) -> Optional[bytearray]:
        """The JSON text of the next inference, or None at the end."""
        buffer = self._buffer
        receive = self._connection.recv_into
        try:
            got = receive(buffer)
            while 0 < got < 5:
                more = receive(memoryview(buffer)[got:])
                got = got + more if more else 0
            if got == 0:
                return None
            size = 4 + unpack_length(buffer)[0]
            if got > size or buffer[4:5] != INFER:
                # The runner sends nothing but one I at a time.
                return None
            if got == size:
                return buffer[5:got]
            request = bytearray(size - 5)
            request[: got - 5] = memoryview(buffer)[5:got]
            return request if read_into(self._connection, memoryview(request)[got - 5 :]) else None
        except OSError:
            return None

    def _answer_next(self) -> bool:
        """Runs one inference and sends all of its frames. False at the end of the connection, Gone when it broke."""
        source = self._next_request()
        if source is None:
            return False
        failure = self._failure()
        if failure is not None:
            self._send(error_frame(failure))
            return True
        model: Any = None
        items: Any = None
        try:
            request = _request(source)
            # Large requests (media in base64) must not be held twice while the module computes.
            del source
            model = request["model"]
            parameters = request["parameters"]
            reply = conversation.prepare(parameters)
            items = self._service.infer(model, request["config"], parameters)
            del request, parameters
            if items is not None:
                if type(items) is not GeneratorType:
                    items = as_iterator(items)
                send = self._send
                for item in items:
                    if type(item) is dict and len(item) == 1 and type(item.get("text")) is str:
                        text = item["text"]
                        send(text_frame(text))
                        if reply is not None:
                            reply.add_text(text)
                    else:
                        self._send_item(item, reply)
            if reply is None:
                self._send(DONE_FRAME)
            else:
                self._send_all(self._encoder.done(reply.finished()))
        except Gone:
            raise
        except BaseException as exception:  # sys.exit and KeyboardInterrupt of a module too: an error, not our end
            process.end_forked_child()
            what = f"module {self._service.id}: inference of model {model!r} failed"
            about = {"module": self._service.id, "model": model}
            self._send(error_frame(from_exception(exception, "INFERENCE_FAILED", what, about)))
        finally:
            self._close(items)
        return True

    def _send_item(self, item: Any, reply: Optional[conversation.Conversation]) -> None:
        fields = require_dict(item)
        for key in fields:
            if key not in CHUNK_KEYS:
                _report_dropped(key)
        self._send_all(self._encoder.chunk(fields))
        if reply is not None:
            reply.add(fields)

    def _send(self, data: Any) -> None:
        """Blocks while the runner does not read: this is the backpressure."""
        try:
            self._connection.sendall(data)
        except OSError:
            process.end_forked_child()
            raise Gone from None

    def _send_all(self, pieces: list[Any]) -> None:
        for piece in pieces:
            self._send(piece)

    def _close(self, items: Any) -> None:
        """Closes what the module gave, so that its ``finally`` blocks run now. Harmless when it is exhausted."""
        close = getattr(items, "close", None)
        if close is None:
            return
        try:
            close()
        except BaseException as exception:  # whatever a module's finally block does, the slot goes on
            process.end_forked_child()
            calls.log("warning", f"closing an inference of module {self._service.id} failed: {describe(exception)}")


def _request(source: bytearray) -> dict[str, Any]:
    try:
        request, _ = _parse(source.decode())
        if not isinstance(request["parameters"], dict):
            raise WorkerError("REQUEST_INVALID", "`parameters` has to be an object")
        if not isinstance(request["config"], dict):
            raise WorkerError("REQUEST_INVALID", "`config` has to be an object")
    except RecursionError:
        raise WorkerError("REQUEST_INVALID", "the request is nested too deeply") from None
    except (ValueError, KeyError, TypeError) as reason:
        raise WorkerError("REQUEST_INVALID", f"the request can't be read: {describe(reason)}") from None
    return request


_reported: set[str] = set()


def _report_dropped(key: Any) -> None:
    """Once for each key: a stream of thousands of yields must not become as many log lines."""
    name = str(key)
    if name.startswith("_") or name in _reported or len(_reported) > 100:
        return
    _reported.add(name)
    calls.log("debug", f"a yield's key {name!r} is dropped: known keys are text, files, extra, warnings, errors")
