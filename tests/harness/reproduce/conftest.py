"""A model preset small enough to run whole tables in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cells_in_process import cells_in_process

from cogcalib.harness.reproduce import Preset, load_preset

__all__ = ["cells_in_process"]

SMALL = {
    "name": "small",
    "about": "for tests",
    "parameters": 1e6,
    "tokens": 40,
    "rate": {"device": "one core", "flops": 1e10},
    "config": {
        "model": {"path": "atlas"},
        "train": {"steps": 4, "batch_size": 8, "style_steps": 2, "threshold_every": 2},
        "baselines": {"members": 2, "passes": 2},
    },
    "tasks": {
        "country": {
            "tasks": {
                "train": "atlas/country",
                "out_of_domain": ["atlas/capital"],
                "limit": {"train": 16, "calibration": 24, "test": 24},
            }
        },
        "country-open": {
            "tasks": {
                "train": "atlas/country-open",
                "limit": {"train": 16, "calibration": 24, "test": 24},
            }
        },
    },
}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    path: Path = tmp_path_factory.mktemp("preset") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return load_preset(str(path))
