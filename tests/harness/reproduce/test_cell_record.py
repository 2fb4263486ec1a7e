"""What cells noted, whole or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cogcalib.harness.reproduce.analyses import _read
from cogcalib.harness.reproduce.cell_record import code_of_cells, read_cell, read_cost
from cogcalib.harness.reproduce.table_rows import _baseline_cost
from cogcalib.harness.run_folder import RunFolder, read_posthoc_map
from cogcalib.records import InputError, write_json

CODE = {"commit": "abc", "dirty": True}


def test_the_code_of_cells(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.cell("train-sft-seed-0"), {"wall": 1.0, "device": "cpu", "code": CODE})
    write_json(folder.cell("train-sft-seed-1"), {"wall": 1.0, "device": "cpu"})
    assert code_of_cells(tmp_path) == {"abc+": 1}
    write_json(folder.code, {"commit": "abd", "dirty": False})
    assert code_of_cells(tmp_path) == {"abc+": 1, "abd": 1}
    write_json(folder.code, {})
    with pytest.raises(InputError, match=r"code.json: missing fields .*; remove it"):
        code_of_cells(tmp_path)


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_cell, {}),
        (read_cell, []),
        (read_cell, {"wall": 1.0, "code": {"commit": "abc"}}),
        (read_cost, {"wall": 1.0, "device": "cpu"}),
        (read_cost, {"wall": "long", "processor": 1.0, "device": "cpu"}),
        (_baseline_cost, {"passes": "ten", "extra_parameters": 0, "fit_seconds": 0.0}),
        (read_posthoc_map, []),
        (lambda path: _read(path, "detector"), {"auroc": []}),
        (lambda path: _read(path, "dynamics"), [{"split": "test"}]),
    ],
)
def test_what_is_no_such_record_is_named_with_one_remedy(
    read: Callable[[Path], Any], content: Any, tmp_path: Path
) -> None:
    file = write_json(tmp_path / "noted.json", content)
    with pytest.raises(InputError, match=r"noted.json: .*; remove ") as told:
        read(file)
    assert str(told.value).count("remove ") == 1
