"""One cell, run by a process whole or not at all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from transformers import set_seed

from cogcalib.harness import stages
from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import split_posthoc
from cogcalib.harness.progress import StageProgress
from cogcalib.harness.reproduce.detector import detection
from cogcalib.harness.reproduce.dynamics import dynamics
from cogcalib.harness.reproduce.kept_rows import read_rows
from cogcalib.harness.reproduce.planned_cells import Cell, weights_of
from cogcalib.harness.run_folder import MODEL, RunFolder
from cogcalib.harness.stages import RunContext
from cogcalib.harness.stages.dropped import were_dropped
from cogcalib.modeling import fingerprint
from cogcalib.owned_folder import FolderError
from cogcalib.provenance import code_state
from cogcalib.records import write_json


def run_cell(cell: Cell, console: Console, data_dir: Path | None = None) -> bool:
    """Do what a cell leaves to be done; a finished part is not done again.

    The processes of a table, on one machine or several, may be given cells that train the same
    model: a lock lets one of them in. A process that dies leaves none.

    Returns:
        False if another process is at it: nothing was done.

    Raises:
        FolderError: If a file lies where its run folder belongs.
    """
    folder, code = cell.place.path, _running()
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is a file, no run folder; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(cell) as ours:
        if not ours or not cell.missing():
            return ours
        started = time.perf_counter()
        set_seed(cell.seed)
        if cell.kind == "prepare":
            shared = folder.parent / "probes"
            stages.begin(
                cell.place.config, folder, console, resume=True, data_dir=data_dir, probes=shared
            )
        else:
            _run(cell, console)
        wall = round(time.perf_counter() - started, 2)
        write_json(timing_path(cell), {"wall": wall, "device": device(), "code": code})
    return True


@contextmanager
def locked(cell: Cell) -> Iterator[bool]:
    """Whether the lock of what a cell trains is ours, for as long as it lasts."""
    path = lock_path(cell)
    path.parent.mkdir(exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def lock_path(cell: Cell) -> Path:
    """The lock of what a cell trains."""
    folder = cell.place.path
    trained = Method.parse(cell.method).trained if cell.method else "prepare"
    return folder.parent / "locks" / f"{folder.name}.{trained}.{cell.seed}.lock"


def timing_path(cell: Cell) -> Path:
    """Where the seconds of a finished cell stand, and what code it ran."""
    # What is only calibrated after the fact takes seconds: it must not pass for the training.
    only_posthoc = cell.predicted and all(split_posthoc(name)[1] for name in cell.predicted)
    return RunFolder(cell.place.path).cell(f"{'recalibrate-' * bool(only_posthoc)}{cell.name}")


_fingerprint = cache(fingerprint)
"""Of the weights as this process first found them."""


@cache
def _running() -> dict[str, Any]:
    """The code as it was when this process began its first cell."""
    return code_state()


def device() -> str:
    """What this process computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _run(cell: Cell, console: Console) -> None:
    config = cell.place.config
    folder = stages.open_folder(config, cell.place.path, resume=True)
    # Weights may have been replaced since the folder was prepared.
    folder.claim(MODEL, _fingerprint(config.model.path, config.model.revision))
    context = RunContext(config, folder, StageProgress(console, folder.cell_timings(cell.name)))
    splits = stages.read_splits(folder)
    method = Method.parse(cell.method)
    if cell.kind in ("detector", "dynamics"):
        examine = {"detector": detection, "dynamics": dynamics}[cell.kind]
        _train_again(cell, context, splits)
        found = examine(context, method, cell.seed, splits)
        write_json(folder.analysis(cell.kind, cell.method, cell.seed), found)
        return
    _train(cell, context, splits)
    if cell.kind == "trial":
        stages.try_out(context, method, cell.seed, splits)
    models = stages.AskedModels(shared=cell.place.path.parent / "answers")
    for seed in cell.seeds:
        for name in cell.predicted:
            method = Method.parse(name)
            stages.score(context, method, seed, splits, models, along=cell.predicted)
            read_rows(folder, name, seed)


def _train(cell: Cell, context: RunContext, splits: stages.Splits) -> None:
    """Train, unless it was done before, and note what it cost.

    Processor time where the processor does the work: other processes do not count in it.
    """
    method = Method.parse(cell.method)
    output = context.folder.train(method.trained, cell.seed)
    wall, processor = time.perf_counter(), time.process_time()
    before = output.exists()
    _train_again(cell, context, splits)
    if cell.kind != "baseline":
        knowledge = context.folder.read_probe()
        stages.train(context, method, cell.seed, splits, knowledge)
    if output.exists() and not before:
        cost = {
            "wall": round(time.perf_counter() - wall, 2),
            "processor": round(time.process_time() - processor, 2),
            "device": device(),
        }
        write_json(context.folder.training_cost(method.trained, cell.seed), cost)


def _train_again(cell: Cell, context: RunContext, splits: stages.Splits) -> None:
    """Train what was dropped and is asked again."""
    dropped = [path for path in weights_of(cell) if were_dropped(path)]
    if not dropped or not _asks_a_model(cell, context.folder):
        return
    for path in dropped:
        shutil.rmtree(path)
    method = Method.parse(cell.method)
    stages.train(context, method, cell.seed, splits, context.folder.read_probe())


def _asks_a_model(cell: Cell, folder: RunFolder) -> bool:
    """Whether what a cell leaves to be done cannot be made of predictions that are there."""
    if cell.kind != "train":
        return True
    for seed in cell.seeds:
        for method in map(Method.parse, cell.predicted):
            before = folder.predictions(method.before_posthoc.name, seed)
            done = folder.predictions(method.name, seed).exists()
            if not done and not (stages.maps_predictions(method) and before.exists()):
                return True
    return False
