"""A YAML file of somebody's own: looked at before it is loaded, so that none can take long, or memory."""

from __future__ import annotations

from pathlib import Path

import yaml

from intrinsic_cli.errors import ConfigError

LARGEST = 1_000_000  # bytes
DEEPEST = 20  # nestings; the configuration has four


def sound_text(path: Path) -> str:
    """The text of a regular file of at most LARGEST bytes that is sound YAML without what would be slow to load:
    aliases, which may multiply, and deep nesting. Raises ConfigError."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} is no file of at most {LARGEST} bytes; give one of keys and values")
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{path} has an alias (*name); write each value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{path} can't be read: it nests more than {DEEPEST} deep; mend the file")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # UnicodeError among them
        raise ConfigError(f"{path} can't be read: {' '.join(str(error).split())}; mend the file") from error
    return text
