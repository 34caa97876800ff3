"""What a module yields, as lines of the stream.

A line leaves as UTF-8 bytes that nobody parses again. Bytes inside of it leave beside it, as attachments.
"""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring, encode_basestring_ascii

from .errors import UnfitError
from .frames import CHUNK, CHUNK_WITH_FILES, DONE, DONE_WITH_FILES, ERROR, MAX_BODY, FrameTooLarge, frame, pack_length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

CHUNK_KEYS = frozenset(("text", "files", "extra", "warnings", "errors", "_save_response"))

_TEXT_HEAD = '{"chunk":{"response":{"text":'
_TEXT_TAIL = '},"warnings":[],"errors":[]}}\n'
_DEPTH_LIMIT = 64
DONE_FRAME = frame(DONE, b'{"done":true}\n')


def text_frame(text: str) -> bytes:
    """The frame of a chunk that holds only text: what language models yield, thousands of times a second."""
    try:
        line = (_TEXT_HEAD + encode_basestring(text) + _TEXT_TAIL).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: only an escape can carry it.
        line = (_TEXT_HEAD + encode_basestring_ascii(text) + _TEXT_TAIL).encode()
    return pack_length(len(line) + 1) + CHUNK + line


def error_frame(error: dict[str, Any]) -> bytes:
    return frame(ERROR, json.dumps({"error": error}, separators=(",", ":"), default=str).encode() + b"\n")


class Encoder:
    """One per slot: encoding an attachment is a step with state."""

    def __init__(self, nonce: str) -> None:
        self._prefix = f"@@berth-att:{nonce}:"
        self._attachments: list[Any] = []
        options: dict[str, Any] = {"allow_nan": False, "separators": (",", ":"), "default": self._default}
        self._encode = json.JSONEncoder(ensure_ascii=False, **options).encode
        self._encode_ascii = json.JSONEncoder(ensure_ascii=True, **options).encode

    def chunk(self, item: dict[str, Any]) -> list[Any]:
        """The frame of any yield, in pieces. Raises UnfitError that names what can't be sent."""
        response: dict[str, Any] = {}
        text = item.get("text")
        if text is not None:
            if not isinstance(text, str):
                raise _unfit("text", text, "has to be a string")
            response["text"] = text
        files = item.get("files")
        if files is not None:
            response["files"] = _list("files", files)
        extra = item.get("extra")
        if extra is not None:
            if not isinstance(extra, dict):
                raise _unfit("extra", extra, "has to be a dict")
            response["extra"] = extra
        body = {
            "chunk": {
                "response": response,
                "warnings": _list("warnings", item.get("warnings")),
                "errors": _list("errors", item.get("errors")),
            }
        }
        return self._pieces(body, CHUNK, CHUNK_WITH_FILES, item)

    def done(self, conversation: list[Any]) -> list[Any]:
        body = {"done": True, "conversation": conversation}
        return self._pieces(body, DONE, DONE_WITH_FILES, {"conversation": conversation})

    def _pieces(self, body: Any, plain: bytes, with_files: bytes, source: Any) -> list[Any]:
        attachments: list[Any] = []
        self._attachments = attachments
        try:
            try:
                line = self._encode(body).encode() + b"\n"
            except UnicodeEncodeError:
                attachments.clear()
                line = self._encode_ascii(body).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as reason:
            raise _explained(source, reason) from reason
        finally:
            self._attachments = []
        if not attachments:
            size = len(line) + 1
            head = plain
        else:
            size = 5 + len(line) + sum(4 + len(part) for part in attachments)
            head = with_files + pack_length(len(line))
        if size > MAX_BODY:
            raise FrameTooLarge(
                f"{size} bytes in one yield; at most {MAX_BODY} can be sent at once: yield smaller pieces"
            )
        pieces: list[Any] = [pack_length(size) + head + line]
        for part in attachments:
            pieces.append(pack_length(len(part)))
            pieces.append(part)
        return pieces

    def _default(self, value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            # A view of single bytes counts and slices in bytes, whatever the item size was.
            view = memoryview(value)
            self._attachments.append(view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes())
            return f"{self._prefix}{len(self._attachments) - 1}@@"
        to_list = getattr(value, "tolist", None)
        if callable(to_list):
            # numpy and torch: arrays and single numbers alike.
            return to_list()
        raise TypeError


def require_dict(item: Any) -> dict[str, Any]:
    """The yield itself when it is a dict; else raises UnfitError that names what was yielded."""
    if isinstance(item, dict):
        return item
    raise UnfitError(
        f"SERVICE_INFERENCE yielded {_shown(item)}; each yield has to be a dict with text, files, extra, warnings, errors",
    )


def _list(key: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str) and key != "files":
        return [value]
    raise _unfit(key, value, "has to be a list")


def _unfit(key: str, value: Any, what: str) -> UnfitError:
    return UnfitError(f"SERVICE_INFERENCE yielded {key!r} as {_shown(value)}; it {what}")


def _explained(source: Any, reason: BaseException) -> UnfitError:
    where = _find_unfit(source, "", 0)
    if where is None:
        detail = "nested too deeply" if isinstance(reason, RecursionError) else str(reason)
        return UnfitError(f"what SERVICE_INFERENCE yielded can't be sent as JSON: {detail}")
    path, what = where
    return UnfitError(f"SERVICE_INFERENCE yielded {what} at {path}, which JSON can't carry")


def _find_unfit(value: Any, path: str, depth: int) -> Optional[tuple[str, str]]:
    """Path and name of the first thing that JSON can't carry."""
    if depth > _DEPTH_LIMIT:
        return path, "something that is nested too deeply or contains itself"
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, "NaN" if math.isnan(value) else "Infinity")
    if value is None or isinstance(value, (str, int, bytes, bytearray, memoryview)):
        return None
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, float) and not math.isfinite(key):
                return path or "the top", f"the key {key!r}"
            if key is not None and not isinstance(key, (str, int, float)):
                return path or "the top", f"a key of type {type(key).__name__}"
            found = _find_unfit(inner, f"{path}.{key}" if path else str(key), depth + 1)
            if found is not None:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            found = _find_unfit(inner, f"{path}[{index}]", depth + 1)
            if found is not None:
                return found
        return None
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return _find_unfit(to_list(), path, depth + 1)
    return path, f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"{type(value).__name__} ({len(value)} bytes)"
    try:
        text = repr(value)
    except Exception:
        text = "(without a readable form)"
    return f"{type(value).__name__}: {text[:80]}"
