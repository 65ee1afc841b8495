"""Names that a key accepts, and where the thing behind each lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from intrinsic_cli.errors import ConfigError, near


class Registry:
    """The names that a key accepts and where each thing lives: `name -> "module:object"`, or a module alone.

    A thing is imported when it is asked for, so that a list of names costs nothing.
    """

    def __init__(self, key: str, homes: Mapping[str, str]) -> None:
        self._key, self._homes = key, dict(homes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __getitem__(self, name: str) -> Any:
        """What `name` stands for. Raises ConfigError, with the names that are near, at one that is not known."""
        if name not in self._homes:
            hint = near(str(name), self) or f"; use one of {', '.join(self)}"
            raise ConfigError(f"{self._key}={name!r} is not known{hint}")
        module, _, thing = self._homes[name].partition(":")
        found = import_module(module)
        return getattr(found, thing) if thing else found
