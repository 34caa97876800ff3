"""Log lines of modules, into the module's structured log."""

from typing import Any

INFO: int = 0
WARNING: int = 1
ERROR: int = 2
CRITICAL: int = 3

_NAMES = ("info", "warning", "error", "critical")


def WriteLog(level: Any = INFO, message: Any = "", **names: Any) -> None:
    """``level`` is one of INFO, WARNING, ERROR, CRITICAL. ``Level`` and ``Message`` are accepted as names too."""
    _write(names.pop("Level", level), names.pop("Message", message), names)


def PrintLog(level: Any = INFO, message: Any = "", flush: bool = True, **names: Any) -> None:
    """The same: whatever is logged is visible at once, with or without ``flush``."""
    names.pop("Flush", flush)
    _write(names.pop("Level", level), names.pop("Message", message), names)


def _write(level: Any, message: Any, unknown: dict[str, Any]) -> None:
    if unknown:
        raise TypeError(f"unexpected argument: {', '.join(unknown)}")
    name = _NAMES[level] if isinstance(level, int) and 0 <= level < len(_NAMES) else "info"
    try:
        from berth_worker import calls
    except ImportError:
        # A process that the module has started by itself.
        print(f"[{name.upper()}] {message}", flush=True)
        return
    calls.log(name, str(message))
