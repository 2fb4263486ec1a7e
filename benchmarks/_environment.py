"""With what, on what and when something was measured: what stands beside its numbers."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cogcalib.provenance import code_state, hardware, versions

COMPARED = (
    "cut-cross-entropy", "liger-kernel", "lm_eval", "netcal", "ray", "torchmetrics", "triton",
)  # fmt: skip
"""What the benchmarks compare with or run on where it is installed, beside what cogcalib needs."""


def environment(device: str = "cpu") -> dict[str, Any]:
    """Date, commit, versions, machine, and its load over the last minute, our own in it.

    Args:
        device: ``"cpu"`` or ``"cuda"``, whose name then stands there.
    """
    code = code_state()
    machine = hardware(torch.cuda.get_device_name() if device == "cuda" else device)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": code["commit"],
        "changed_since": code["dirty"],
        "versions": {**versions(), **_compared()},
        "machine": {**machine, "processor": _processor() or machine["processor"]},
        "platform": platform.platform(),
        "load": round(os.getloadavg()[0], 1),
    }


def _compared() -> dict[str, str]:
    found = {}
    for package in COMPARED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str | None:
    """Its name as Linux has it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), None)
