"""Shared by all tests: no network, one thread, repeatable property tests, the real data."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

# Read by the libraries when they are imported, so these stand before the first import of one.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
        "MPLBACKEND": "agg",
    }
)
# xdist gives its workers the width of the terminal, which tables would take.
os.environ.pop("COLUMNS", None)

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)

# No deadline: the first example of a test pays for imports and caches. Under CI a failure must
# come back on the next run, so there the examples are the same each time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets: $COGCALIB_DATA, else ``../shared/data`` of the project."""
    named = os.environ.get("COGCALIB_DATA")
    if named is not None:
        if not Path(named).is_dir():
            pytest.fail(f"COGCALIB_DATA must name an existing folder, got {named!r}")
        return Path(named)
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data sets: name their folder in COGCALIB_DATA")
    return folder


@pytest.fixture
def write_package(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write a package `cogcalib` from file -> source, an empty __init__ in each folder."""

    def write(files: dict[str, str]) -> Path:
        package = tmp_path / "cogcalib"
        for name, source in files.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        for folder in [package, *(path.parent for path in package.rglob("*.py"))]:
            (folder / "__init__.py").touch()
        return package

    return write


def pytest_collection_finish() -> None:
    """Take what the imports left out of garbage collection.

    Accelerate collects at the start of every training; with the million objects of transformers,
    TRL and the tests to look through, that alone is a sixth of a small training's time.
    """
    gc.collect()
    gc.freeze()
    _number_data_sets()


def _number_data_sets() -> None:
    """Give the data sets of `datasets` random fingerprints, as it does itself where it cannot hash.

    A fingerprint finds what an earlier session left in the cache on disk. To make one, `datasets`
    pickles all that a function refers to, sixteen times per trainer: a fifth of a small training.
    Processes that tests start do without this, so real fingerprints are made there.
    """
    if "datasets" not in sys.modules:  # no test collected here needs it
        return
    from datasets import arrow_dataset, fingerprint

    def numbered(*_: object) -> str:
        return fingerprint.generate_random_fingerprint()

    fingerprint.update_fingerprint = arrow_dataset.update_fingerprint = numbered
