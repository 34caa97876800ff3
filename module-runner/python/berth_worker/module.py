"""The service module: its import, what is injected into it, and its models' load and offload."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from . import imports
from .errors import WorkerError
from .streams import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

REQUIRED = ("SERVICE_LOAD_MODELS", "SERVICE_OFFLOAD_MODELS", "SERVICE_INFERENCE")


class ServiceModule:
    """Everything but ``infer`` belongs to the main thread."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.id: str = configuration["id"]
        self.models: dict[str, dict[str, Any]] = configuration["models"]
        self.entry: str = configuration["entry"]
        self._folder: str = os.path.abspath(configuration["modulePath"])
        self._data: str = os.path.abspath(configuration["dataPath"])
        self._service_configuration = configuration.get("serviceConfiguration")
        self._server_configuration = {**(configuration.get("serverConfiguration") or {}), "services": self.models}
        self._module: Optional[ModuleType] = None
        self._loaded: dict[str, None] = {}

    def import_entry(self) -> None:
        """Raises what the import raises, and WorkerError when the module is not a service."""
        directory = working_directory(self._data, self.id, self._folder)
        os.chdir(directory)
        finder = imports.install(self.id, self._folder, directory)
        path = os.path.join(self._folder, self.entry)
        if not os.path.isfile(path):
            raise WorkerError("LOAD_FAILED", f"module {self.id} has no file {self.entry}", {"file": self.entry})
        module = _run_file(self.id, path, finder)
        missing = [name for name in REQUIRED if not callable(getattr(module, name, None))]
        if missing:
            raise WorkerError(
                "LOAD_FAILED",
                f"module {self.id}: {self.entry} does not define {', '.join(missing)} as callable; a service module "
                f"needs {', '.join(REQUIRED)}",
                {"missing": missing, "file": self.entry},
            )
        setattr(module, "ServiceConfiguration", self._service_configuration)
        setattr(module, "ServerConfiguration", self._server_configuration)
        self._module = module

    def load(self, models: dict[str, dict[str, Any]]) -> list[str]:
        """
        Gives the module the very objects that stand in ServerConfiguration["services"]: it keeps live things in them
        and reads them back at inference, under keys that begin with ``_``. Any other key that a model's configuration
        does not have any more is taken out.
        """
        module = self._imported()
        given: dict[str, dict[str, Any]] = {}
        for name, configuration in models.items():
            own = self.models.setdefault(name, configuration)
            if own is not configuration:
                for key in [key for key in list(own) if not str(key).startswith("_") and key not in configuration]:
                    del own[key]
                own.update(configuration)
            given[name] = own
        settle(module.SERVICE_LOAD_MODELS(given))
        self._loaded.update(dict.fromkeys(models))
        return list(models)

    def offload(self, names: list[str]) -> list[str]:
        """Only names that are loaded reach the module. They count as offloaded even when it then fails."""
        module = self._imported()
        mine = [name for name in dict.fromkeys(names) if name in self._loaded]
        if not mine:
            return []
        for name in mine:
            del self._loaded[name]
        settle(module.SERVICE_OFFLOAD_MODELS(list(mine)))
        return mine

    def offload_all(self) -> None:
        if self._module is not None:
            self.offload(list(self._loaded))

    def infer(self, model: str, configuration: Any, parameters: Any) -> Any:
        """What SERVICE_INFERENCE returned. From any thread."""
        module = self._imported()
        if model not in self.models:
            raise WorkerError(
                "MODEL_NOT_FOUND", f"module {self.id} has no model {model!r}: it offers {_names(self.models)}"
            )
        return module.SERVICE_INFERENCE(model, configuration, parameters)

    def _imported(self) -> ModuleType:
        if self._module is None:
            raise WorkerError("LOAD_FAILED", f"module {self.id} is not imported yet")
        return self._module


def working_directory(data: str, module_id: str, folder: str) -> str:
    """
    ``<data>/work``: writable, with Temp, and with links to the module's files under both names that modules open
    relative paths with. Replicas share it, so each step accepts that another has just done it.
    """
    directory = os.path.join(data, "work")
    os.makedirs(os.path.join(directory, "Temp"), exist_ok=True)
    for parent in (imports.CANONICAL, imports.ALIAS):
        os.makedirs(os.path.join(directory, parent), exist_ok=True)
        _link(folder, os.path.join(directory, parent, module_id))
    return directory


def _link(target: str, link: str) -> None:
    try:
        if os.readlink(link) == target:
            return
    except OSError:
        pass
    temporary = f"{link}.{os.getpid()}.new"
    os.symlink(target, temporary)
    try:
        os.replace(temporary, link)
    except OSError:
        # A folder of this name stands there, made by the module itself: it keeps it.
        os.unlink(temporary)


def _run_file(name: str, path: str, finder: imports.ModuleFinder) -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise WorkerError("LOAD_FAILED", f"{path} is not a Python file")
    module = module_from_spec(spec)
    finder.offer_entry(os.path.splitext(os.path.basename(path))[0], module)
    # Under its own plain name it can be looked up, as dataclasses and pickle do, unless something else has that name
    # (a module `whisper` that imports the package `whisper`).
    if _is_free(name):
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_free(name: str) -> bool:
    from importlib.util import find_spec

    if name in sys.modules or "." in name:
        return False
    try:
        return find_spec(name) is None
    except (ImportError, ValueError):
        return True


def _names(models: dict[str, Any]) -> str:
    return ", ".join(sorted(models)) or "none"
