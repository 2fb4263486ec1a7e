"""The figures of README and findings are what the committed records say."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    # As Python does for the script itself: its folder comes first.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))
        spec = importlib.util.spec_from_file_location("readme", ROOT / "experiments" / "readme.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up by its name.
        patch.setitem(sys.modules, "readme", module)
        spec.loader.exec_module(module)
        yield module


def test_pages_say_what_the_records_say(script: ModuleType) -> None:
    records = script.read_records()
    for page in {block.page for block in script.BLOCKS.values()}:
        text = page.read_text(encoding="utf-8")
        assert script.written(page, text, records) == text, "run: python experiments/readme.py"


def test_another_figure_is_noticed(script: ModuleType) -> None:
    for block in script.BLOCKS.values():
        text = block.page.read_text(encoding="utf-8")
        for name in block.records:
            records = copy.deepcopy(script.read_records())
            _change(records[name])
            assert script.written(block.page, text, records) != text, name


def _change(record: dict[str, Any]) -> None:
    """Another accuracy, share or ECE everywhere."""
    for group in record.get("results", ()):
        for row in group["rows"]:
            for metric in row["mean"]:
                row["mean"][metric] += 0.01
    if "shares" in record:
        record["shares"][0][0] += 0.01
    for row in record.get("right", ()):
        row["right"] += 0.01


def test_a_page_without_its_marks_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="must hold"):
        script.written(script.README, "no marks", script.read_records())
