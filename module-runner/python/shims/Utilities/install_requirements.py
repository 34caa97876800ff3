"""Installation of packages into the module's environment, for ``requirements.py``: with uv where there is one, or pip."""

import importlib.util
import os
import shlex
import subprocess
import sys
from typing import Any, Iterable, Optional, Union

_LAST_LINES = 30
# uv ends with this when it does not know an option: then pip may.
_UV_USAGE_ERROR = 2
_PIP_NAMES = ("pip", "pip3", "python -m pip", "python3 -m pip", "uv pip")


class InstallationError(RuntimeError):
    """The installer failed; its last lines are in the message."""


def GetPIPCommand(InstallIfNotFound: bool = True) -> str:
    """The command that installs into this environment, such as ``python3 -m pip``: without options, split by spaces."""
    if _uv() is not None:
        return "uv pip"
    if InstallIfNotFound:
        _ensure_pip()
    return "python3 -m pip"


def InstallPackage(
    Packages: Union[str, Iterable[str]],
    PIPCommand: Optional[str] = None,
    EnvVars: dict[str, Any] = {},
    PIPOptions: Iterable[str] = [],
) -> None:
    """
    Installs ``Packages`` with ``PIPOptions``; ``EnvVars`` are set for the installer and what it builds. Raises
    InstallationError. A ``PIPCommand`` of another environment is used as it is.
    """
    packages = [Packages] if isinstance(Packages, str) else [str(package) for package in Packages]
    arguments = [*map(str, PIPOptions), *packages]
    environment = {**os.environ, **{name: str(value) for name, value in EnvVars.items()}}
    if PIPCommand is not None and PIPCommand.strip() not in _PIP_NAMES:
        _run([*shlex.split(PIPCommand), "install", *arguments], environment)
        return
    uv = _uv()
    if uv is not None:
        status, lines = _stream([uv, "pip", "install", "--python", sys.executable, *arguments], environment)
        if status == 0:
            return
        if status != _UV_USAGE_ERROR:
            raise InstallationError(_failure("uv pip install", arguments, status, lines))
        print("uv could not do this; trying pip", flush=True)
    _ensure_pip()
    _run([sys.executable, "-m", "pip", "install", *arguments], environment)


def _uv() -> Optional[str]:
    return os.environ.get("BERTH_UV") or None


def _ensure_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        _run([sys.executable, "-m", "ensurepip"], dict(os.environ))
        importlib.invalidate_caches()


def _run(command: list[str], environment: dict[str, str]) -> None:
    status, lines = _stream(command, environment)
    if status != 0:
        raise InstallationError(_failure(os.path.basename(command[0]), command[1:], status, lines))


def _stream(command: list[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """Runs the command with its output passed on line by line. Its exit status and last lines."""
    last: list[str] = []
    try:
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as program:
            for line in program.stdout or ():
                print(line, end="", flush=True)
                last.append(line.rstrip())
                del last[:-_LAST_LINES]
        return program.returncode, last
    except OSError as reason:
        raise InstallationError(f"{command[0]} can't be run: {reason}") from reason


def _failure(program: str, arguments: list[str], status: int, lines: list[str]) -> str:
    return f"{program} {' '.join(arguments)} failed with exit status {status}:\n" + "\n".join(lines)
