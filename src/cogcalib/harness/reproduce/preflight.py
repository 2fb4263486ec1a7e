"""Preflight of a plan: access, extras, disk and memory against need, and a short timed training."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cogcalib.harness.config import Method
from cogcalib.harness.reproduce.device_memory import check_device_memory, check_devices
from cogcalib.harness.reproduce.estimate import most_at_once, timed_cells
from cogcalib.harness.reproduce.measured_rates import MeasuredRates, keep_rates
from cogcalib.harness.reproduce.plan import Plan, folder_name
from cogcalib.harness.reproduce.planned_cells import row_cells, trial_cells
from cogcalib.harness.reproduce.trial_steps import measure
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages import load_tasks
from cogcalib.harness.stages.baselines import check_baseline
from cogcalib.hub import mind_the_network
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
) -> list[Checked]:
    """Look at everything that a plan needs, cheapest first; measure if nothing was in the way.

    Args:
        plan: The plan.
        jobs: Processes at once.
        gpus: GPUs that they have.
        tell: Told each thing at once.
        data_dir: Folder of local data sets.
        drop: As `ExecutionOptions.drop_adapters`.
    """
    found: list[Checked] = []

    def note(checks: Iterable[Checked]) -> None:
        for each in checks:
            found.append(each)
            tell(each)

    note(_weights(plan))
    note(_data(plan, data_dir))
    note(_fits(plan, jobs, gpus))
    if not all(each.passed for each in found):
        note([Checked("steps", False, "not taken: what is above comes first")])
        return found
    root = plan.places[0].path.parent
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".check-") as folder:
            rates = measure(plan, Path(folder), data_dir)
    except (ValueError, OSError, RuntimeError) as error:
        note([Checked("steps", False, in_a_line(error))])
        return found
    file = keep_rates(root, rates)
    note(_measured(rates, file))
    note(_disk(plan, rates, jobs if drop else None))
    note(_memory(rates, jobs, gpus))
    return found


def _weights(plan: Plan) -> Iterator[Checked]:
    for model in dict.fromkeys(place.config.model.path for place in plan.places):
        try:
            source = resolve_model(model)
            if os.path.isdir(source):
                yield Checked("weights", True, f"{model}: here")
            else:
                yield _on_the_hub(source)
        except (ValueError, OSError) as error:
            yield Checked("weights", False, f"{model}: {in_a_line(error)}")


def _on_the_hub(model: str) -> Checked:
    """Whether the hub gives us the files; if not, whether a licence or a login is missing."""
    from huggingface_hub import auth_check, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    mind_the_network()
    if constants.HF_HUB_OFFLINE:
        names = ("model.safetensors", "model.safetensors.index.json")
        there = any(isinstance(try_to_load_from_cache(model, name), str) for name in names)
        text = "in the cache" if there else "not in the cache, and the hub is not asked (offline)"
        return Checked("weights", there, f"{model}: {text}")
    try:
        auth_check(model)
    except GatedRepoError:
        text = f"gated: accept its licence at {constants.ENDPOINT}/{model}, then `hf auth login`"
        return Checked("weights", False, f"{model}: {text}")
    except RepositoryNotFoundError:
        text = "the hub has none of this name, or shows it to its owners' tokens alone"
        return Checked("weights", False, f"{model}: {text}")
    except (HfHubHTTPError, OSError) as error:
        return Checked("weights", False, f"{model}: {in_a_line(error)}")
    return Checked("weights", True, f"{model}: the hub gives it")


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


def _disk(plan: Plan, rates: MeasuredRates, dropping: int | None) -> Iterator[Checked]:
    count, free = trainings(plan), shutil.disk_usage(plan.places[0].path.parent).free
    needed: float = count * rates.saved
    at_once = ""
    if dropping is not None:
        cells = timed_cells(plan)
        whole = sum(each.cost.disk for each in cells if each.cell.missing())
        share = most_at_once(plan, cells, dropping) / whole if whole else 0.0
        needed, at_once = min(1.0, share) * needed, " at once"
    text = (
        f"{count} trainings of {rates.saved / 1e6:,.1f} MB: {needed / 1e9:,.1f} GB{at_once} of "
        f"{free / 1e9:,.1f} GB free"
    )
    yield Checked("disk", needed < free, text)


def _memory(rates: MeasuredRates, jobs: int, gpus: int) -> Iterator[Checked]:
    total = host_memory()
    text = f"{jobs} x {rates.host / 1e9:,.1f} GB of {total / 1e9:,.1f} GB"
    yield Checked("host memory", jobs * rates.host < total, text)
    if gpus:
        most = max(Counter(number % gpus for number in range(jobs)).values())
        total = torch.cuda.get_device_properties(0).total_memory
        text = (
            f"{most} x {rates.memory / 1e9:,.1f} GB of {total / 1e9:,.1f} GB, with the longest rows"
        )
        yield Checked("device memory", most * rates.memory < total, text)


def refused(found: Sequence[Checked]) -> bool:
    """Whether something is in the plan's way."""
    return not all(each.passed for each in found)
