"""What the rows of a table cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogcalib.harness.config.read_config import parse_config
from cogcalib.harness.reproduce import table_rows
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.run_folder import RunFolder


@pytest.mark.parametrize(
    ("method", "passes"),
    [("base", 1), ("sft", 1), ("sft+ts", 1), ("sft+daca", 2), ("cols-options+tsdaca", 2)],
)
def test_a_map_by_the_base_model_asks_it_too(method: str, passes: int, tmp_path: Path) -> None:
    place = Place("m", "t", "default", tmp_path, parse_config("name: x"), (), tested_on=("t",))
    cost = table_rows._cost(place, RunFolder(tmp_path), method, [0], sft=None)
    assert cost.passes == passes
