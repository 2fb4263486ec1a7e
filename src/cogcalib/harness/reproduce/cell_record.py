"""Records of finished cells: how long they took, on what, by which code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cogcalib.artifacts import read_record
from cogcalib.harness.remedies import WITHOUT
from cogcalib.harness.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class CodeState:
    """As `cogcalib.provenance.code_state` has it."""

    commit: str | None
    dirty: bool | None

    def __str__(self) -> str:
        return f"{self.commit}{'+' * bool(self.dirty)}"


@dataclass(frozen=True, slots=True)
class CellRecord:
    """Of a finished cell.

    Attributes:
        wall: Seconds.
        device: What it computed on.
        code: The code it ran; None in those that noted none, and ran what began the run.
    """

    wall: float
    device: str = ""
    code: CodeState | None = None


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Of a training.

    Attributes:
        wall: Seconds.
        processor: Seconds of processor time.
        device: What it computed on.
    """

    wall: float
    processor: float
    device: str

    @property
    def seconds(self) -> float:
        """Processor time on a CPU, where other processes would disturb the clock."""
        return self.processor if self.device == "cpu" else self.wall


def read_cell(path: Path) -> CellRecord:
    """What a cell noted.

    Raises:
        InputError: Naming the file, if it is damaged.
    """
    return read_record(path, CellRecord, WITHOUT)


def read_cost(path: Path) -> TrainingCost | None:
    """What a training took; None if that was not noted.

    Raises:
        InputError: Naming the file, if it is damaged.
    """
    return read_record(path, TrainingCost, WITHOUT) if path.exists() else None


def code_of_cells(folder: Path) -> Counter[str]:
    """Commit, ``+`` behind it if it had changes, -> finished cells of a run folder."""
    return Counter(_codes(RunFolder(folder)))


def _codes(folder: RunFolder) -> Iterator[str]:
    begun = read_record(folder.code, CodeState, WITHOUT) if folder.code.exists() else None
    for path in folder.cells():
        code = read_cell(path).code or begun
        if code is not None:
            yield str(code)
