"""Preflight of a plan: access, extras, disk and memory against need, and a short timed training."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogcalib.harness.config import Method
from cogcalib.harness.reproduce.cell_cost import NUMBER_BYTES
from cogcalib.harness.reproduce.device_memory import (
    check_device_memory,
    check_devices,
    memory_of_a_process,
)
from cogcalib.harness.reproduce.estimate import most_at_once, timed_cells
from cogcalib.harness.reproduce.hub_weights import access, cache_room, missing_files, shares_disk
from cogcalib.harness.reproduce.measured_rates import MeasuredRates, keep_rates
from cogcalib.harness.reproduce.plan import Place, Plan, folder_name
from cogcalib.harness.reproduce.planned_cells import row_cells, trial_cells
from cogcalib.harness.reproduce.trial_steps import measure
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages import load_tasks
from cogcalib.harness.stages.baselines import check_baseline
from cogcalib.modeling import resolve_model
from cogcalib.modeling.model_files import in_a_line
from cogcalib.provenance import host_memory
from cogcalib.records import InputError


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at.

    Attributes:
        name: What it is, such as ``weights``.
        passed: Whether the plan can run as far as this goes.
        text: What was found, and what mends it.
    """

    name: str
    passed: bool
    text: str


Tell = Callable[[Checked], None]


def lacking_extras(methods: Iterable[str]) -> dict[str, str]:
    """Row -> what it needs that is not installed, of those rows that cannot run here."""
    found = {}
    for name in methods:
        try:
            check_baseline(Method.parse(name))
        except ValueError as error:
            found[name] = str(error)
    return found


def preflight(
    plan: Plan,
    jobs: int,
    gpus: int,
    tell: Tell,
    data_dir: Path | None = None,
    *,
    drop: bool = False,
    lacking: Sequence[str] = (),
) -> list[Checked]:
    """Look at everything that a plan needs, cheapest first; measure if nothing was in the way.

    Args:
        plan: The plan.
        jobs: Processes at once.
        gpus: GPUs that they have.
        tell: Told each thing at once.
        data_dir: Folder of local data sets.
        drop: As `ExecutionOptions.drop_adapters`.
        lacking: Why rows were left out of the plan, of those that were.
    """
    started = time.perf_counter()
    found: list[Checked] = []

    def note(checks: Iterable[Checked]) -> None:
        for each in checks:
            found.append(each)
            tell(each)

    note(Checked("extras", True, f"left out {row}") for row in lacking)
    note(_weights(plan))
    note(_downloads(plan))
    note(_data(plan, data_dir))
    note(_fits(plan, jobs, gpus))
    if refused(found):
        note([Checked("steps", False, "not taken: what is above comes first")])
    else:
        note(_tried(plan, jobs, gpus, data_dir, drop=drop))
    note([Checked("time", True, f"{time.perf_counter() - started:,.1f} s for all of this")])
    return found


def _tried(
    plan: Plan, jobs: int, gpus: int, data_dir: Path | None, *, drop: bool
) -> Iterator[Checked]:
    """What a short training shows, and what the plan needs by it."""
    root = plan.places[0].path.parent
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".check-") as folder:
            rates = measure(plan, Path(folder), data_dir)
    except (ValueError, OSError, RuntimeError) as error:
        yield Checked("steps", False, in_a_line(error))
        return
    yield from _measured(rates, keep_rates(root, rates))
    yield _disk(plan, rates, jobs, drop=drop)
    yield from _memory(rates, jobs, gpus)


def _weights(plan: Plan) -> Iterator[Checked]:
    for model, revision in dict.fromkeys(map(_source, plan.places)):
        named = model if revision is None else f"{model} at {revision}"
        try:
            passed, text = (True, "here") if _is_here(model) else access(model, revision)
        except (ValueError, OSError) as error:
            passed, text = False, in_a_line(error)
        yield Checked("weights", passed, f"{named}: {text}")


def _source(place: Place) -> tuple[str, str | None]:
    return place.config.model.path, place.config.model.revision


def _is_here(model: str) -> bool:
    return os.path.isdir(resolve_model(model))


def _to_download(plan: Plan) -> float:
    """Bytes of the weights on the hub that its cache lacks, by parameters and number format."""
    sizes: dict[tuple[str, str | None], float] = {}
    for place in plan.places:
        parameters = plan.preset_of(place).parameters
        sizes[_source(place)] = parameters * NUMBER_BYTES[place.config.model.dtype]
    return sum(
        size
        for (model, revision), size in sizes.items()
        if not _is_here(model) and missing_files(model, revision)
    )


def _downloads(plan: Plan) -> Iterator[Checked]:
    """Room for what is yet to be downloaded, on the file system of the hub's cache."""
    try:
        needed = _to_download(plan)
    except (ValueError, OSError):  # told of the weights
        return
    if needed:
        free = cache_room()
        text = f"{needed / 1e9:,.1f} GB of weights to download, {free / 1e9:,.1f} GB free"
        yield Checked("cache", needed < free, text)


def _data(plan: Plan, data_dir: Path | None) -> Iterator[Checked]:
    """Every task trained or tested on, whole, as its cells will read it."""
    seen = set()
    for place in plan.places:
        tasks = place.config.tasks
        if (key := (place.config.model.path, tasks.train, tasks.out_of_domain)) in seen:
            continue
        seen.add(key)
        try:
            task, others = load_tasks(place.config, data_dir)
        except (ValueError, OSError) as error:
            yield Checked("data", False, f"{folder_name(place.path)}: {in_a_line(error)}")
            continue
        sizes = ", ".join(f"{name} {len(rows):,}" for name, rows in task.splits.items())
        tests = "".join(f"; {each.name} {len(each.splits['test']):,}" for each in others)
        yield Checked("data", True, f"{task.name}: {sizes}{tests}")


def _fits(plan: Plan, jobs: int, gpus: int) -> Iterator[Checked]:
    """What the weights take for certain, before any are loaded."""
    try:
        if gpus:
            check_devices(plan, jobs, gpus)
        else:
            check_device_memory(plan, host_memory() / jobs, "this machine")
    except InputError as error:
        yield Checked("memory", False, str(error))


def _measured(rates: MeasuredRates, file: Path) -> Iterator[Checked]:
    text = (
        f"{rates.step:.3f} s each, gated, {rates.step_tokens:,.0f} tokens; loading {rates.load:.1f}"
        f" s; scoring {rates.questions_per_second:,.1f} questions a second; {rates.task}, "
        f"{rates.dtype}, {rates.device}; kept in {file}"
    )
    yield Checked("steps", True, text)


def trainings(plan: Plan) -> int:
    """Models that are yet to be trained; one for each alpha that may be chosen."""
    cells = trial_cells(plan)
    for place in plan.shown():
        cells += row_cells(place, place.methods, plan.seeds)
    wanted = {
        RunFolder(cell.place.path).train(Method.parse(cell.method).trained, cell.seed)
        for cell in cells
        if Method.parse(cell.method).trained != "base"
    }
    return sum(not path.exists() for path in wanted)


def _disk(plan: Plan, rates: MeasuredRates, jobs: int, *, drop: bool) -> Checked:
    """What is left and kept, and what is there besides while it trains, against what is free."""
    root = plan.places[0].path.parent
    count, free = trainings(plan), shutil.disk_usage(root).free
    cells = timed_cells(plan)
    missing = [each for each in cells if each.cell.missing()]
    kept: float = count * rates.saved
    at_once = ""
    if drop:
        whole = sum(each.cost.disk for each in missing)
        share = most_at_once(plan, cells, jobs) / whole if whole else 0.0
        kept, at_once = min(1.0, share) * kept, " at once"
    largest = max((each.cost.checkpoints for each in missing), default=0.0)
    checkpoints = min(jobs, count) * largest
    downloads = _to_download(plan) if shares_disk(root) else 0.0
    parts = [f"{kept / 1e9:,.1f} GB{at_once}"]
    parts += [f"{checkpoints / 1e9:,.1f} GB of checkpoints while they train"] * bool(checkpoints)
    parts += [f"{downloads / 1e9:,.1f} GB of weights to download"] * bool(downloads)
    text = (
        f"{count} trainings of {rates.saved / 1e6:,.1f} MB: {' and '.join(parts)}, of "
        f"{free / 1e9:,.1f} GB free"
    )
    return Checked("disk", kept + checkpoints + downloads < free, text)


def _memory(rates: MeasuredRates, jobs: int, gpus: int) -> Iterator[Checked]:
    total = host_memory()
    text = f"{jobs} x {rates.host / 1e9:,.1f} GB of {total / 1e9:,.1f} GB"
    yield Checked("host memory", jobs * rates.host < total, text)
    if gpus:
        room = memory_of_a_process(jobs, gpus)
        text = (
            f"{rates.memory / 1e9:,.1f} GB of the {room / 1e9:,.1f} GB that a process may take, "
            "with the longest rows"
        )
        yield Checked("device memory", rates.memory < room, text)


def refused(found: Sequence[Checked]) -> bool:
    """Whether something is in the plan's way."""
    return not all(each.passed for each in found)
