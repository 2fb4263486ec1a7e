"""Packages whose public names are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any


class LazyPackage(ModuleType):
    """A package that imports a module when one of the module's public names is first asked for.

    A public name may be that of its module, such as ``cogcalib.knowledge.probe``: it means the
    name, whether or not the module was imported by itself before.
    """

    _names: Mapping[str, Sequence[str]]
    _homes: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        if name in self._homes:
            value = getattr(import_module(self._homes[name]), name)
            setattr(self, name, value)
            return value
        if f"{self.__name__}.{name}" in self._names:
            return import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds every module it has loaded to its package.
        if not (isinstance(value, ModuleType) and name in self._homes):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._homes})


def import_on_use(package: str, names: Mapping[str, Sequence[str]]) -> None:
    """Make a package lazy; for its ``__init__``, which imports the same under TYPE_CHECKING.

    Args:
        package: Its ``__name__``.
        names: Module -> public names that live there.
    """
    module = sys.modules[package]
    homes = {name: home for home, found in names.items() for name in found}
    vars(module).update(_names=names, _homes=homes)
    module.__class__ = LazyPackage
