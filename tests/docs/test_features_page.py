"""The page of features: every test it names exists, and what it says is refused is refused."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cogcalib.training import CogCalibConfig

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<feature>.+?) \| (?P<status>\w+) \| (?P<shown>.+?) \|$", re.MULTILINE)
ROWS = [
    match.groupdict()
    for match in ROW.finditer((ROOT / "docs" / "features.md").read_text(encoding="utf-8"))
    if match["status"] in ("right", "refused", "untested")
]


def settings(shown: str) -> dict[str, Any] | None:
    """The configuration a refused row gives, or None if it names a test."""
    text = shown.strip("`")
    return json.loads(text) if text.startswith("{") else None


def test_the_table_is_read() -> None:
    assert len(ROWS) > 30
    assert {row["status"] for row in ROWS} == {"right", "refused", "untested"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["feature"])
def test_named_tests_exist(row: dict[str, str]) -> None:
    names = re.findall(r"`(\w+\.py)::(\w+)`", row["shown"])
    if row["status"] == "untested":
        assert not names
        return
    assert names or (row["status"] == "refused" and settings(row["shown"]))
    for file, name in names:
        (path,) = ROOT.glob(f"tests/**/{file}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


REFUSED = [row for row in ROWS if row["status"] == "refused" and settings(row["shown"])]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["feature"])
def test_refused_settings_are_refused(row: dict[str, str], tmp_path: Path) -> None:
    given = settings(row["shown"]) or {}
    with pytest.raises(ValueError, match="|".join(given)):
        CogCalibConfig(str(tmp_path), use_cpu=True, bf16=False, **given)
