"""Cells of a table in the test's own process: a worker's would import its libraries for seconds."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cogcalib.harness.reproduce import workers
from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.planned_cells import Cell


def _run(worker: workers._Worker, cell: Cell) -> workers.Failure | str:
    data_dir = Path(worker.words[1]) if len(worker.words) > 1 else None
    try:
        ours = run_cell(cell, Console(file=io.StringIO()), data_dir)
    except Exception as error:
        return workers.Failure(cell, str(error), str(error))
    return workers.DONE if ours else workers.TAKEN


def run_in_process(patch: pytest.MonkeyPatch) -> None:
    """Let `reproduce` start no process."""
    patch.setattr(workers._Worker, "run", _run)


@pytest.fixture
def cells_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run_in_process` for a test."""
    run_in_process(monkeypatch)
