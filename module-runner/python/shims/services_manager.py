"""Calls of other models, through Berth's gateway: what `calls:` of the module's module.yaml grants."""

from typing import Any, Iterator

try:
    from berth_worker import calls as _calls
except ImportError:
    _calls = None  # type: ignore[assignment]


def InferenceModel(ModelName: str, Prompt: Any, UserParameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """
    A generator of what the other model yields: ``response`` (with ``text`` and ``files`` always), ``warnings``,
    ``errors``; ``text``, ``files`` and ``extra`` also stand at the top where they were yielded, so that a module can
    yield it on as it is. Closing the generator cancels the inference. Raises PermissionError without a grant.
    """
    outgoing = _gateway()
    outgoing.require_grant(ModelName)
    call = {
        "kind": "infer",
        "model": ModelName,
        "prompt": _sendable(Prompt),
        "parameters": _sendable(UserParameters or {}),
    }
    return _items(outgoing.results(call))


def LoadModels(Models: dict[str, dict[str, Any]]) -> None:
    """Has the named models loaded, with the configuration that Berth has for them. Waits."""
    _change("load", Models)


def OffloadModels(Names: list[str]) -> None:
    """Has the named models offloaded. Waits."""
    _change("offload", Names)


def GetModelConfiguration(ModelName: str) -> dict[str, Any]:
    """A copy of the model's configuration without private keys. The module's own models need no grant."""
    outgoing = _gateway()
    if ModelName in outgoing.models:
        return _public(outgoing.models[ModelName])
    outgoing.require_grant(ModelName)
    return _public(outgoing.value({"kind": "configuration", "model": ModelName}) or {})


def IsServiceInstalled(Name: str) -> bool:
    """Is there a module of this name? False where nobody can be asked, as while requirements are installed."""
    if _calls is None or not _calls.connected():
        return False
    return bool(_calls.outgoing().value({"kind": "installed", "names": [Name]}))


def _gateway() -> Any:
    if _calls is None:
        raise RuntimeError("models can be called only from within the process that Berth started for the module")
    return _calls.outgoing()


def _change(kind: str, names: Any) -> None:
    outgoing = _gateway()
    wanted = [names] if isinstance(names, str) else [str(name) for name in names]
    for name in wanted:
        outgoing.require_grant(name)
    outgoing.value({"kind": kind, "names": wanted})


def _items(results: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        for result in results:
            chunk = result.get("chunk")
            if chunk is None:
                continue
            response = chunk.get("response") or {}
            yield {
                **response,
                "response": {"text": "", "files": [], **response},
                "warnings": chunk.get("warnings") or [],
                "errors": chunk.get("errors") or [],
            }
    finally:
        results.close()  # type: ignore[attr-defined]


def _sendable(value: Any) -> Any:
    """
    Bytes become base64, as they do in what modules yield. Raises TypeError and ValueError for what JSON has no form for:
    other objects, keys that are no strings, NaN and the infinities.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a dict with the key {key!r} can't be sent to another model: keys have to be strings")
        return {key: _sendable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sendable(inner) for inner in value]
    if isinstance(value, float) and value - value != 0:
        raise ValueError(f"the number {value!r} can't be sent to another model: JSON has neither NaN nor infinities")
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a {type(value).__name__} can't be sent to another model")


def _public(configuration: Any) -> Any:
    if isinstance(configuration, dict):
        return {key: _public(value) for key, value in configuration.items() if not str(key).startswith(("_", "."))}
    if isinstance(configuration, (list, tuple)):
        return [_public(value) for value in configuration]
    return configuration
