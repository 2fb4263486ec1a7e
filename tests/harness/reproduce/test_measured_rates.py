"""The plan by the rates that `reproduce --check` measured."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cogcalib.harness.reproduce import Cell, Place, Preset, load_preset, load_table, make_plan
from cogcalib.harness.reproduce.cell_cost import (
    FORWARD_KERNELS,
    NUMBER_BYTES,
    PADDING,
    STEP_KERNELS,
    cell_cost,
    with_measured,
)
from cogcalib.harness.reproduce.estimate import hours, show_plan, timed_cells
from cogcalib.harness.reproduce.measured_rates import (
    MEASURED,
    MeasuredRates,
    keep_rates,
    measured_rates,
)
from cogcalib.records import InputError, write_json

LLAMA = "meta-llama/Meta-Llama-3-8B"


def place_of(preset: Preset, root: Path) -> Place:
    return make_plan(load_table("main"), preset, root, seeds=[0], tune_seeds=[0]).places[0]


def rates_of(preset: Preset, place: Place, **known: Any) -> MeasuredRates:
    """What `--check` would measure on a device of a preset's rates: 2,500 long tokens, a batch."""
    rate, size = preset.rate, preset.parameters
    start = preset.layers * rate.launch
    tokens = place.config.train.batch_size * preset.tokens_of(place.config.tasks.train)
    given: dict[str, Any] = {
        "model": preset.name,
        "task": place.config.tasks.train,
        "device": "a [fast] box",
        "dtype": place.config.model.dtype,
        "adapter": True,
        "load": NUMBER_BYTES[place.config.model.dtype] * size / rate.load,
        "step": max(4 * size * tokens * PADDING / rate.flops, STEP_KERNELS * start),
        "step_tokens": tokens,
        "long_step": max(4 * size * 2500 / rate.flops, STEP_KERNELS * start),
        "long_tokens": 2500,
        "scored": max(2 * size * 9000 / rate.flops, FORWARD_KERNELS * start),
        "scored_questions": 64,
        "scored_tokens": 9000,
        "saved": 1,
        "memory": 1,
        "host": 1,
    }
    return MeasuredRates(**given | known)


@pytest.mark.parametrize("wrong", [{"scored": 0}, {"step": "fast"}, {"load": float("inf")}])
def test_rates_that_nothing_can_have_are_named(wrong: dict[str, Any], tmp_path: Path) -> None:
    preset = load_preset("atlas")
    rates = rates_of(preset, place_of(preset, tmp_path))
    (name,) = wrong
    write_json(tmp_path / MEASURED, asdict(rates) | wrong)
    with pytest.raises(InputError, match=rf"{MEASURED}: {name} must be .*; remove it; --check"):
        measured_rates(tmp_path)


def test_rates_that_check_measured_replace_those_assumed(tmp_path: Path) -> None:
    preset = load_preset("atlas")
    plan = make_plan(load_table("main"), preset, tmp_path, seeds=[0], tune_seeds=[0])
    place = plan.places[0]
    # Slower by half to train, four times as slow to score.
    known = rates_of(preset, place)
    slower = {"step": 1.5 * known.step, "long_step": 1.5 * known.long_step, "load": 2.0}
    before = next(each for each in timed_cells(plan) if each.cell.kind == "trial").cost
    keep_rates(place.path.parent, replace(known, scored=4 * known.scored, **slower))
    after = next(each for each in timed_cells(plan) if each.cell.kind == "trial").cost
    assert after.training == pytest.approx(1.5 * before.training)
    assert after.scoring == pytest.approx(4 * before.scoring)
    assert after.loading == pytest.approx(2 * 2.0)
    stream = io.StringIO()
    show_plan(plan, 1, Console(file=stream, width=200))
    assert "that --check measured" in stream.getvalue()
    assert "a [fast] box" in stream.getvalue()


def test_rates_of_steps_that_go_forward_again_are_read_as_such(tmp_path: Path) -> None:
    preset = load_preset(LLAMA)
    known = rates_of(preset, place_of(preset, tmp_path))
    again = with_measured(preset, replace(known, checkpointing=True))
    assert again.rate.flops == pytest.approx(6 / 4 * with_measured(preset, known).rate.flops)


@pytest.mark.parametrize("launch", [1.5e-5, 0.0])
def test_a_box_as_the_preset_assumes_it_changes_nothing(tmp_path: Path, launch: float) -> None:
    preset = load_preset(LLAMA)
    rate = preset.rate.model_copy(update={"launch": launch})
    preset = preset.model_copy(update={"rate": rate})
    plan = make_plan(load_table("paper"), preset, tmp_path, seeds=range(3), tune_seeds=[0])
    before = hours(timed_cells(plan), 4)
    for task in ("openbookqa", "boolq"):  # whose steps wait for their kernels, and do not
        place = next(each for each in plan.places if each.task == task)
        keep_rates(place.path.parent, rates_of(preset, place))
        assert hours(timed_cells(plan), 4) == pytest.approx(before, rel=1e-3), task


def test_small_batches_bound_what_the_device_can_do(tmp_path: Path) -> None:
    """Where even the long ones wait, no step is planned shorter than what was measured."""
    preset = load_preset(LLAMA)
    place = place_of(preset, tmp_path)
    step, scored = 0.5, 0.5 * FORWARD_KERNELS / STEP_KERNELS
    known = rates_of(preset, place, step=step, long_step=step, scored=scored)
    found = with_measured(preset, known)
    assert found.rate.launch == pytest.approx(step / (32 * STEP_KERNELS))
    assert found.rate.forward >= found.rate.flops
    cost = cell_cost(Cell(place, "member", "sft"), found)
    assert cost.training == pytest.approx(2500 * step)
