"""Provenance of a result: versions, hashes of the data, state of the code, hardware."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cogcalib.records import Example

PACKAGES = (
    "cogcalib", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers",
    "numpy", "scipy",
)  # fmt: skip


def data_manifest(splits: dict[str, list[Example]]) -> dict[str, dict[str, Any]]:
    """Split -> number of rows and a hash of them."""
    manifest = {}
    for name, examples in splits.items():
        rows = json.dumps([asdict(example) for example in examples], ensure_ascii=False)
        digest = hashlib.sha256(rows.encode()).hexdigest()
        manifest[name] = {"n": len(examples), "sha256": digest}
    return manifest


def versions() -> dict[str, str]:
    """Python and the packages that take part in a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code_state() -> dict[str, Any]:
    """Commit of the checkout this package runs from, and whether its files were changed; else None.

    Files that git does not track are no change, as for ``git describe --dirty``.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A package installed into an environment inside somebody's checkout is not that checkout.
    if git("ls-files", "--error-unmatch", str(here / "records.py")) is None:
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}


def host_memory() -> int:
    """Bytes of this machine's memory; 0 where the system does not tell."""
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, memory (GiB) and the device trained on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(host_memory() / 2**30, 1),
        "device": device,
    }
