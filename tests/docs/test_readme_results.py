"""The README's figures are what the committed records say."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    # As Python does for the script itself: its folder comes first.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))
        yield _loaded()


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "experiments" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_says_what_the_records_say(script: ModuleType) -> None:
    readme = script.README.read_text(encoding="utf-8")
    assert script.written(readme, script.read_records()) == readme, (
        "run: python experiments/readme.py"
    )


def test_another_figure_is_noticed(script: ModuleType) -> None:
    readme = script.README.read_text(encoding="utf-8")
    for name in script.BLOCKS:
        records = copy.deepcopy(script.read_records())
        if name in ("results", "controls"):
            for group in records[name]["results"]:
                for row in group["rows"]:
                    row["mean"]["accuracy"] += 0.01
        else:
            records[name]["shares"][0][0] += 0.01
        assert script.written(readme, records) != readme


def test_a_readme_without_its_marks_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="must hold"):
        script.written("no marks", script.read_records())
