"""The model that README trains, once for all tests of pages."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from pages import ROOT, blocks
from readme_rows import rows_of, write_rows

PAGE = ROOT / "README.md"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train.jsonl`` in which README's script has written ``out``.

    On rows like the one that is shown; another model, and two steps on a processor.
    """
    folder = tmp_path_factory.mktemp("readme")
    (row,) = map(json.loads, blocks(PAGE, "json"))
    rows = rows_of("train", 0, 210)
    assert row.keys() == rows[0].keys()
    write_rows(folder / "train.jsonl", [row, *rows])
    code = blocks(PAGE)[0]
    small = 'CogCalibConfig(output_dir="out", max_steps=2, use_cpu=True, bf16=False)'
    for old, new in (
        ('"Qwen/Qwen2.5-7B"', '"atlas"'),
        ('CogCalibConfig(output_dir="out")', small),
    ):
        assert code.count(old) == 1
        code = code.replace(old, new)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        exec(compile(code, "README.md", "exec"), {})
    return folder
