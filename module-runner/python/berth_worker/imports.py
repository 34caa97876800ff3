"""How a module's files find each other: ``Services.<folder>.<file>``, ``EnabledModules.<folder>.<file>``, ``<file>``.

Both prefixed names lead to one module object, so that state in a sibling exists once.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Sequence

CANONICAL = "Services"
ALIAS = "EnabledModules"


def install(folder_name: str, folder: str, working_directory: str) -> ModuleFinder:
    finder = ModuleFinder(folder_name, folder)
    sys.meta_path.insert(0, finder)
    position = _first_installed_packages()
    # Before installed packages, and after the standard library, which a sibling of the same name must not replace.
    sys.path.insert(position, folder)
    # Processes that the module spawns have this path but not the finder: there, links in the working directory serve.
    sys.path.append(working_directory)
    return finder


def _first_installed_packages() -> int:
    for index, entry in enumerate(sys.path):
        if os.path.basename(entry) in ("site-packages", "dist-packages"):
            return index
    return len(sys.path)


class ModuleFinder:
    def __init__(self, folder_name: str, folder: str) -> None:
        self._folder_name = folder_name
        self._folder = folder
        self._entry: Optional[tuple[str, ModuleType]] = None

    def offer_entry(self, stem: str, module: ModuleType) -> None:
        """Lets siblings import the entry itself, without running it a second time."""
        self._entry = (f"{self._folder_name}.{stem}", module)

    def find_spec(
        self, name: str, _path: Optional[Sequence[str]] = None, _target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        top, _, rest = name.partition(".")
        if top == ALIAS:
            return self._alias(name, CANONICAL + name[len(ALIAS) :])
        if top != CANONICAL:
            return None
        if rest == "":
            return _package(name, [])
        if self._entry is not None and rest == self._entry[0]:
            return importlib.machinery.ModuleSpec(name, _AliasLoader(self._entry[1]))
        if rest != self._folder_name:
            return None
        initial = os.path.join(self._folder, "__init__.py")
        if not os.path.isfile(initial):
            return _package(name, [self._folder])
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, initial, submodule_search_locations=[self._folder])

    def _alias(self, name: str, canonical: str) -> Optional[importlib.machinery.ModuleSpec]:
        try:
            module = importlib.import_module(canonical)
        except ModuleNotFoundError as missing:
            if missing.name is None or not (canonical + ".").startswith(missing.name + "."):
                raise
            return None
        spec = importlib.machinery.ModuleSpec(name, _AliasLoader(module))
        if hasattr(module, "__path__"):
            # Files below are found through this finder alone.
            spec.submodule_search_locations = []
        return spec


def _package(name: str, locations: list[str]) -> importlib.machinery.ModuleSpec:
    spec = importlib.machinery.ModuleSpec(name, _EmptyLoader(), is_package=True)
    spec.submodule_search_locations = locations
    return spec


class _EmptyLoader:
    def create_module(self, _spec: Any) -> None:
        return None

    def exec_module(self, _module: ModuleType) -> None:
        return None


class _AliasLoader:
    """Gives the module that is already there; its own spec and path stay what they were."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, _spec: Any) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
