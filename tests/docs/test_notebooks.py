"""The notebooks run from top to bottom and print what is committed, measured figures aside."""

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


def masked(outputs: list[dict[str, Any]]) -> list[str]:
    """Kinds and lines of a cell's outputs, without what may differ between machines: decimals,
    counts of answers, the answers themselves, why nothing is promised, and the width of tables."""
    found = []
    for output in outputs:
        found.append(output["output_type"])
        for line in "".join(output.get("text", [])).splitlines():
            line = re.sub(r"(?<=\?  ).*", "answer", line)
            line = re.sub(r"\b\d+ of \d+\b", "counts", line)
            line = re.sub(r"(?<=nothing is promised: ).*", "reason", line)
            line = re.sub(r"\d+\.\d+", "decimal", line)
            found.append(re.sub(r"[\s━─]+", " ", line).strip())
    return found


def test_masked_text_keeps_integers_and_words() -> None:
    def of(text: str) -> list[str]:
        return masked([{"output_type": "stream", "text": text.splitlines(keepends=True)}])

    assert of("520 to calibrate with") != of("2000 to calibrate with")
    assert of("ECE 13.2%") == of("ECE 4.9%") != of("AURC 4.9%")
    assert of("0.80  In which country is Ghent?  Iran") == of(
        "0.4  In which country is Ghent?  Peru"
    )
    assert of("0.80  In which country is Ghent?  Iran") != of(
        "0.8  In which country is Lima?  Iran"
    )
    assert of("│   15 │ 50.5 │ 38 of 315 │") == of("│ 15 │ 9.25 │ 4 of 31 │")
    assert of("a\n") != of("a\nb\n")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prepares_the_data_as_committed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = code_cells(read(path))
    trains = [".train()" in "".join(cell["source"]) for cell in cells]
    before = cells[: trains.index(True)]
    assert run_cells({"cells": before}) == [cell["outputs"] for cell in before]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_prints_as_committed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = read(path)
    for cell, outputs in zip(code_cells(notebook), run_cells(notebook), strict=True):
        assert masked(outputs) == masked(cell["outputs"])
