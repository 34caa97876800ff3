"""
Runs a module's requirements.py in its environment: ``run_requirements.py FILE GPU [extra pip argument ...]``.

``Install`` gets as many arguments as it takes: ``Install(None)``, ``Install(None, [extra pip arguments])`` or
``Install(gpu, vulkan, env, args)``.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class RequirementsError(Exception):
    """Why requirements.py could not be run, in one line for people."""


def main(arguments: list[str]) -> int:
    package = os.path.dirname(os.path.abspath(__file__))
    home = os.path.dirname(package)
    # Not this folder, whose file names are no business of requirements.py, but what it may import.
    sys.path[0] = os.path.join(home, "shims")
    file = os.path.abspath(arguments[0])
    sys.path.insert(1, os.path.dirname(file))
    _lead_to_this_environment()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    install = None
    try:
        install = _install_function(file)
        _call(install, arguments[1], arguments[2:])
    except RequirementsError as reason:
        print(reason, flush=True)
        return 1
    except BaseException as exception:
        if isinstance(exception, SystemExit) and exception.code in (None, 0):
            # `Install` may end so. A file that does before there is an `Install` has nothing installed.
            if install is not None:
                return 0
            print(f"{os.path.basename(file)} ended by sys.exit() before its `Install` could be called", flush=True)
            return 1
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        print(f"{os.path.basename(file)} failed: {type(exception).__name__}: {exception}", flush=True)
        return 1
    return 0


def _install_function(file: str) -> Callable[..., Any]:
    from importlib.util import module_from_spec, spec_from_file_location

    name = os.path.basename(file)
    if not os.path.isfile(file):
        raise RequirementsError(f"there is no {name}")
    spec = spec_from_file_location("requirements", file)
    if spec is None or spec.loader is None:
        raise RequirementsError(f"{name} is not a Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    install = getattr(module, "Install", None)
    if not callable(install):
        raise RequirementsError(
            f"{name} defines no function `Install`: it needs one of Install(None), Install(None, extra_pip_arguments) "
            "or Install(gpu, vulkan, env, args)"
        )
    return install


def _call(install: Callable[..., Any], gpu: str, extra: list[str]) -> None:
    from Utilities.gpu_utils import GPUHasVulkan, GPUType

    os.environ["BERTH_GPU"] = gpu
    count = _positional_count(install)
    if count == 0:
        install()
    elif count == 1:
        install(None)
    elif count == 2:
        install(None, extra)
    else:
        given = (GPUType[gpu], GPUHasVulkan(), dict(os.environ), extra)
        install(*given[:count])


def _positional_count(install: Callable[..., Any]) -> int:
    """How many of up to four arguments the function takes."""
    from inspect import Parameter, signature

    try:
        parameters = signature(install).parameters.values()
    except (TypeError, ValueError):
        return 1
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return 4
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(1 for parameter in parameters if parameter.kind in kinds)
    needed = sum(1 for parameter in parameters if parameter.kind in kinds and parameter.default is Parameter.empty)
    if needed > 4:
        raise RequirementsError(f"`Install` needs {needed} arguments; at most four are given: gpu, vulkan, env, args")
    return min(count, 4)


def _lead_to_this_environment() -> None:
    """Programs that requirements.py starts by name (pip, python3, uv) are those of this environment."""
    first = [os.path.dirname(sys.executable)]
    uv = os.environ.get("BERTH_UV")
    if uv:
        first.append(os.path.dirname(uv))
        os.environ["UV_PYTHON"] = sys.executable
    os.environ["PATH"] = os.pathsep.join([*first, os.environ.get("PATH", os.defpath)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
