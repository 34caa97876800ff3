"""Frames between the runner (Node) and this worker: the one description of their private protocol.

Start
  The runner starts ``python3 <module-runner>/python/berth_worker`` (the folder itself) with
    BERTH_WORKER_SOCKET  path of the Unix stream socket on which the runner listens
    BERTH_WORKER_TOKEN   shared secret that every connection's hello carries
    BERTH_GPU            optional: NVIDIA | AMD | INTEL | NO_GPU, what DetectGPU answers (else it looks for devices)
    BERTH_WORKER_CONFIG  path of a JSON file:
        {"id":        module id = folder name,
         "entry":     file to import, relative to modulePath, such as "service.py",
         "modulePath", "dataPath", "cachePath",
         "models":    {name: configuration}         becomes ServerConfiguration["services"], whole,
         "serviceConfiguration": object | null      the default file merged with the user's, by the runner,
         "serverConfiguration"?: object             further keys of ServerConfiguration,
         "calls":     [model, ...]                  what services_manager may call,
         "callMs"?:   30000                         limit of the offload when the runner is gone}
  Numbers: what was written with a point must reach the module as float, so the runner writes ``1.0`` as ``1.0`` in
  this file and passes the client's own JSON text on in ``L`` and ``I`` (JSON.stringify would lose the point).
  The worker changes to ``<dataPath>/work`` and dies with the runner (PR_SET_PDEATHSIG, and the end of the control
  connection). It stays in the process group that the runner gave it.
  SIGTERM, SIGINT and SIGHUP are ignored: the runner ends it with ``Q``, or with SIGKILL.
  fd 1 and 2 are the pipes the runner gave it and carry only what the module prints; lines end in \\n or \\r. A child
  that the module forked may keep these pipes open after the worker's end: go by the process's exit, not by their end.

Frame, both ways
  ``u32 big-endian length of what follows | u8 type | payload``. At most 2^32-1 bytes follow.

Connections, all made by the worker; the first frame is always H
  control   H {"role":"control","token","pid","python":"3.13.1","attachmentNonce":"32 hex digits"}     once, at start
  slot      H {"role":"slot","slot":<slotId as given in O>,"token"}                                    one per O

Control, worker -> runner
  S status   {"state":"imported"} | {"state":"failed","error":ERROR}; once. After "failed" the worker stays and
             answers every L, F and I with that same error, until it gets Q.
  K answer   {"id","ok":{"loaded":[...]}} | {"id","ok":{"offloaded":[...]}} | {"id","error":ERROR}
  G log      {"level":"debug|info|warning|error|critical","message"}
  X call     an OutgoingCall of protocol.ts ({"id","kind",...}); kind "cancel" gets no result
  W window   {"call":id,"frames":n}: the module took n more R frames of this call. So that a slow module does not
             make the worker grow, the runner keeps at most 64 R frames of a call on the way without a W.
  T ended    {"slot":slotId}: this slot's thread has ended. After a cancel it tells when the generator is closed at
             last, so that a new inference or an offload need not overlap with it.
Control, runner -> worker
  L load     {"id","models":{name:configuration}}   put into the object ServerConfiguration["services"][name], which
             keeps its keys that begin with "_" and loses others that the configuration does not have
  F offload  {"id","models":[name]}                 only names that are loaded reach the module
  O open     {"open":slotId}                        slotId: string or number, echoed in the slot's hello
  R result   {"call":id,"frame":CallResult}
  Q quit     {} or empty                            offload all that is loaded, then exit 0
Both sides ignore types that they do not know. In L and F "id" is the first key.

Slot, runner -> worker
  I infer    {"model","config","parameters"}; the next I only after D, B or E. parameters may hold ``conversation`` and
             ``key_info``; the terminal frame has a ``conversation`` exactly when parameters had one (a list, [] too).
Slot, worker -> runner
  C chunk    one complete NDJSON line ``{"chunk":{...}}\\n``, UTF-8: relayed as it is
  A chunk    with binary attachments: ``u32 n | n bytes: the line | then per attachment u32 length | bytes``. In the
             line, attachment i (from 0, in order of appearance) stands as the whole JSON string
             "@@berth-att:<nonce>:<i>@@"; the runner puts the base64 text in place of what is between the quotes
  D done     terminal line ``{"done":true,"conversation"?:[...]}\\n``
  B done     terminal line with attachments, laid out as A
  E error    terminal line ``{"error":ERROR}\\n``
Cancel: the runner destroys the slot's connection (both directions: destroy, not end). The generator is closed at its
next yield, so that its ``finally`` blocks run; nothing more is written and the slot is gone. A runner that ends a slot
while it is idle just destroys it too. An inference runs in the slot's own thread; import, load, offload in the main one.

ERROR = {"code","message","origin":"module","retryable":false,"details"?:{"traceback"?, ...}}, codes LOAD_FAILED,
INFERENCE_FAILED, OUT_OF_MEMORY (MemoryError, CUDA out of memory), MODEL_NOT_FOUND, REQUEST_INVALID (parameters that can't
be parsed).

The other program here, for the installer: ``python3 <module-runner>/python/berth_worker/run_requirements.py FILE GPU
[extra pip argument ...]``, run with the environment's interpreter and the module's folder as working directory, calls
``Install`` of FILE (a requirements.py). GPU is NVIDIA | AMD | INTEL | NO_GPU. BERTH_UV names the uv to use (pip of the
environment otherwise). Output is streamed; exit status 1 and a last line that says why on failure.
"""

from __future__ import annotations

import json
import socket
import struct
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BODY = 2**32 - 1

HELLO = b"H"
STATUS = b"S"
ANSWER = b"K"
LOG = b"G"
CALL = b"X"
WINDOW = b"W"
ENDED = b"T"
LOAD = b"L"
OFFLOAD = b"F"
OPEN = b"O"
RESULT = b"R"
QUIT = b"Q"
INFER = b"I"
CHUNK = b"C"
CHUNK_WITH_FILES = b"A"
DONE = b"D"
DONE_WITH_FILES = b"B"
ERROR = b"E"

_length = struct.Struct(">I")
pack_length = _length.pack
unpack_length = _length.unpack_from
encode_json = json.JSONEncoder(separators=(",", ":"), default=str).encode


class FrameTooLarge(ValueError):
    """What was to be sent does not fit into one frame."""


def frame(kind: bytes, body: bytes) -> bytes:
    """One whole frame, ready to be sent."""
    return pack_length(len(body) + 1) + kind + body


def json_frame(kind: bytes, body: Any) -> bytes:
    return frame(kind, encode_json(body).encode())


def read_into(connection: socket.socket, view: memoryview) -> bool:
    """Fills the view; False when the connection ended before."""
    while view:
        got = connection.recv_into(view)
        if got == 0:
            return False
        view = view[got:]
    return True


def read_exactly(connection: socket.socket, size: int) -> bytearray:
    """The next ``size`` bytes. Raises EOFError when the connection ended before."""
    data = bytearray(size)
    if not read_into(connection, memoryview(data)):
        raise EOFError
    return data


class Channel:
    """A connection that several threads write to: frames never mix."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, kind: bytes, body: Any) -> None:
        """Blocks while the runner does not read. Raises OSError when it is gone."""
        data = json_frame(kind, body)
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> tuple[bytes, bytearray]:
        """The next frame. Raises EOFError when the runner is gone."""
        head = read_exactly(self._connection, 5)
        body = read_exactly(self._connection, unpack_length(head)[0] - 1)
        return bytes(head[4:5]), body
