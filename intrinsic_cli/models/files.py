"""The names and sizes of a model's files, before one of them is fetched or read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from intrinsic_cli.errors import ModelError
from intrinsic_cli.spec import ModelSpec

READ = re.compile(r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?P<kind>safetensors|bin)")  # by transformers


def sizes(spec: ModelSpec, folder: Path | None, *, offline: bool) -> dict[str, int]:
    """Bytes of each file: of a local folder, of the hub's cache when `offline`, or as the hub tells. Empty where
    the cache does not have the model. Passes on what the hub's client raises."""
    from huggingface_hub import HfApi

    if folder is None and offline:
        folder = cached(spec)
        if folder is None:
            return {}
    if folder is not None:
        return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    info = HfApi().model_info(spec.name, revision=spec.revision, files_metadata=True, timeout=30)
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def weights(files: Mapping[str, int]) -> int | None:
    """Bytes of all weights: at least one for every number that they hold. None where no file is known."""
    return (
        sum(size for name, size in files.items() if name.endswith((".safetensors", ".bin")))
        if files
        else None
    )


def check_download(spec: ModelSpec, files: Mapping[str, int]) -> None:
    """Raise ModelError where more would be fetched from the hub than `model.download_limit`."""
    kinds = {name: match["kind"] for name in files if (match := READ.fullmatch(name))}
    kind = "safetensors" if "safetensors" in kinds.values() else "bin"
    size = sum(files[name] for name, found in kinds.items() if found == kind)
    if size > spec.download_limit * 2**30 and cached(spec) is None:
        raise ModelError(
            f"model {spec.name} has weights of {size / 2**30:.3g} GiB, above "
            f"model.download_limit={spec.download_limit:g}; raise model.download_limit to fetch them, or choose a "
            "smaller model"
        )


def cached(spec: ModelSpec) -> Path | None:
    """Where the hub's cache has the model's configuration and weights; None where it lacks one."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.name, "config.json", revision=spec.revision)
    folder = Path(found).parent if isinstance(found, str) else None
    if folder is None or not any(READ.fullmatch(path.name) for path in folder.iterdir()):
        return None
    return folder
