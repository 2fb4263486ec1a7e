"""The README's results are what the committed record says."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "experiments" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_says_what_the_record_says(script: ModuleType) -> None:
    readme = script.README.read_text(encoding="utf-8")
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    assert script.written(readme, record) == readme, "run: python experiments/readme.py"


def test_another_figure_is_noticed(script: ModuleType) -> None:
    readme = script.README.read_text(encoding="utf-8")
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    other = copy.deepcopy(record)
    for group in other["results"]:
        for row in group["rows"]:
            row["mean"]["accuracy"] += 0.01
    assert script.written(readme, other) != readme


def test_a_readme_without_its_marks_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="must hold"):
        script.written("no marks", {})
