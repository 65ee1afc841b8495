"""A model's files: how large they are, and whether they can be what they say, before memory is taken for them.

A folder from elsewhere may describe sizes that no machine holds, or ask for code of its own. Every check raises
ModelError.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from intrinsic_cli.errors import ModelError
from intrinsic_cli.spec import ModelSpec

READ = re.compile(r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?P<kind>safetensors|bin)")  # by transformers
MOST_PARTS = 10_000  # layers, labels, experts or groups: beyond it, building the model alone takes minutes
# Keys by which transformers lets its caller choose code; below 5.3 it took some from files (CVE-2026-4372).
CALLERS_OWN = re.compile(r"_?(attn|experts)_implementation(_internal)?")  # a kernel of the hub's, by its name
OF_TRANSFORMERS = ("eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm")  # what runs no other code
LONGEST_FILE = {"config.json": 2**24, "tokenizer_config.json": 2**24, "tokenizer.json": 2**28}  # bytes
LONGEST_SETTINGS = 2**28  # bytes of another file of settings or words
SETTINGS = (".json", ".txt", ".model", ".jinja")
SLACK = 2**24  # numbers that a model may hold beside those of its weights' files: a new head, say


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
    """Bytes of all weights. None where no file is known."""
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


def check_settings(spec: ModelSpec, files: Mapping[str, int]) -> None:
    """Refuse settings that are too long to be settings, by the bytes of their files, before they are read."""
    for name, size in files.items():
        if name.endswith(SETTINGS) and size > (most := LONGEST_FILE.get(name, LONGEST_SETTINGS)):
            raise ModelError(
                f"model {spec.name}: its {name} has {size:,} bytes, and {most:,} are the most; "
                "copy or download it again"
            )


def check_index(spec: ModelSpec, folder: Path) -> None:
    """Check that the index that is used, where weights are in pieces, names files of its own folder only."""
    if (folder / "model.safetensors").is_file():
        return  # whole weights are read without it
    safe = folder / "model.safetensors.index.json"
    index = safe if safe.is_file() else folder / "pytorch_model.bin.index.json"
    if not index.is_file() or (index != safe and not spec.allow_pickle):
        return
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
        odd = [name for name in shards if name != Path(name).name or not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ModelError(
            f"model {spec.name}: its {index.name} is no index of weights ({type(error).__name__}: {error}); "
            "copy or download it again"
        ) from error
    if odd:
        raise ModelError(
            f"model {spec.name}: its {index.name} names {sorted(odd)[0]!r}, which is no file of the folder; "
            "copy or download all of its files again"
        )


def check_dtypes(spec: ModelSpec, folder: Path) -> None:
    """Refuse weights in integers or 8-bit floats, which mean nothing without what they are scaled by."""
    from safetensors import SafetensorError, safe_open

    if _object(folder / "config.json").get("quantization_config"):
        return  # transformers knows, or says what it lacks
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118 (not a dict)
                    dtype = weights.get_slice(name).get_dtype()
                    if name.endswith((".weight", ".bias")) and not dtype.startswith(
                        ("F64", "F32", "F16", "BF16")
                    ):
                        raise ModelError(
                            f"model {spec.name}: its tensor {name} is {dtype} and config.json has no "
                            "quantization_config to read it by; save the weights as floats"
                        )
        except SafetensorError:
            return  # said where they are loaded


def _object(file: Path) -> dict[str, Any]:
    """What a JSON file says, and nothing where that is no object."""
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def check_config(spec: ModelSpec, config: Mapping[str, Any], most: int | None) -> None:
    """Check the numbers of a config.json before a model is built from it: none may be above `most`, as many as its
    weights hold, where that is known."""
    for key, value in _entries(config):
        if not isinstance(value, int):
            continue
        if re.search("layer|label|expert|group", key) and value > MOST_PARTS:
            raise ModelError(
                f"model {spec.name}: {key}={value} of its config.json is above {MOST_PARTS}; mend the file"
            )
        if most is not None and value > most + SLACK:
            raise ModelError(
                f"model {spec.name}: {key}={value} of its config.json is more than its weights could hold; "
                "the files don't belong together, so copy or download them again"
            )


def check_code(spec: ModelSpec, settings: Mapping[str, Any], file: str, *, asks: bool = True) -> None:
    """Refuse a model whose `file` asks for code of its own, unless `model.trust_remote_code`, and one that sets
    what only a caller may. transformers itself asks about the `auto_map` of a hub model (`asks=False`)."""
    for key, value in _entries(settings):
        if (key == "trust_remote_code" and value) or (CALLERS_OWN.fullmatch(key) and _foreign(key, value)):
            raise ModelError(
                f"model {spec.name}: its {file} sets {key}={value!r:.40}, which is the caller's to choose and "
                f"can run code; remove {key} from the file"
            )
    if asks and settings.get("auto_map") and not spec.trust_remote_code:
        raise ModelError(
            f"model {spec.name} brings its own code (auto_map in its {file}); add model.trust_remote_code=true "
            "if you trust it, or remove auto_map to use the class of transformers"
        )


def _foreign(key: str, value: Any) -> bool:
    """Whether `value` of one of CALLERS_OWN, a name or one for each part of a model, may be another's code."""
    names = value.values() if isinstance(value, Mapping) else [value]
    return key.endswith("_internal") or any(name not in (None, *OF_TRANSFORMERS) for name in names)


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every value in nested dicts and lists, these too, with the nearest key above it."""
    stack = [("", tree)]
    while stack:
        key, value = stack.pop()
        yield key, value
        if isinstance(value, Mapping):
            stack += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, list):
            stack += [(key, v) for v in value]


def skeleton(spec: ModelSpec, model_class: str, config: Any) -> nn.Module:
    """The model that `config` describes, without memory for its numbers."""
    import transformers

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # of empty tensors
        return getattr(transformers, model_class).from_config(
            config, trust_remote_code=spec.trust_remote_code
        )


def check_skeleton(spec: ModelSpec, model: nn.Module, most: int) -> None:
    """Refuse a skeleton of a model that has more numbers than `most`, as many as its weights hold."""
    for key, parameter in model.named_parameters():
        if not parameter.numel():
            raise ModelError(
                f"model {spec.name}: its config.json gives its tensor {key} the shape {tuple(parameter.shape)}; "
                "mend the sizes there"
            )
    size = sum(p.numel() for p in model.parameters())
    if size > most + SLACK:
        raise ModelError(
            f"model {spec.name}: its config.json describes {size} numbers, more than its weights could hold; "
            "the files don't belong together, so copy or download them again"
        )
