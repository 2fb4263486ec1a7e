"""The notebooks run from top to bottom and print what is committed, figures aside."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from notebook_cells import code_cells, run_cells

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))
LIMIT = 200_000
"""Bytes of a notebook with its figures."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_small_and_of_no_machine(path: Path) -> None:
    notebook, text = read(path), path.read_text(encoding="utf-8")
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len(text) < LIMIT
    for folder in ("/home/", "/root/", "/tmp/", "/Users/", sys.prefix):
        assert folder not in text
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run tests/docs/notebook_cells.py"
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        assert bool(cell["outputs"]) == bool(re.search(r"print\(|main\(|panels\(", source)), source


def test_cells_share_a_namespace_and_leave_what_they_print_and_draw() -> None:
    sources = ["x = 2\nprint(x)", "from matplotlib.figure import Figure\nFigure()", "x + 1"]
    cells = [{"cell_type": "code", "source": [source]} for source in sources]
    printed, drawn, nothing = run_cells({"cells": [{"cell_type": "markdown"}, *cells]})
    assert printed == [{"output_type": "stream", "name": "stdout", "text": ["2\n"]}]
    assert drawn[0]["data"].keys() == {"image/png", "text/plain"}
    assert nothing == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_prints_as_committed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits and answers may differ between machines, the number of lines may not."""
    monkeypatch.chdir(tmp_path)
    notebook = read(path)
    for cell, outputs in zip(code_cells(notebook), run_cells(notebook), strict=True):
        kinds = [[each["output_type"] for each in of] for of in (cell["outputs"], outputs)]
        assert kinds[0] == kinds[1]
        for before, now in zip(cell["outputs"], outputs, strict=True):
            if "text" in before:
                assert len(before["text"]) == len(now["text"]), "".join(now["text"])
