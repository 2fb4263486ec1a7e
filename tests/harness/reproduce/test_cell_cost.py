"""The plan's estimate, term by term, against what is really computed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from rich.console import Console
from small_world import small_world as small_world
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.artifacts import read_json
from cogcalib.harness.reproduce import Cell, Place, Preset, load_preset, load_table, make_plan
from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.cell_cost import (
    FORWARD_KERNELS,
    OPTIONS,
    PADDING,
    STEP_KERNELS,
    CellCost,
    adapted_width,
    cell_cost,
)
from cogcalib.harness.reproduce.definitions import merge
from cogcalib.harness.reproduce.estimate import TimedCell, hours, show_plan, timed_cells
from cogcalib.harness.run_folder import RunFolder
from cogcalib.modeling import lora_config
from cogcalib.records import InputError

LLAMA = "meta-llama/Meta-Llama-3-8B"
VIEWS = {"view", "t", "transpose", "expand", "slice", "unsqueeze", "_unsafe_view", "permute",
         "detach", "alias", "select", "squeeze", "as_strided", "reshape", "empty_like",
         "empty", "_local_scalar_dense", "lift_fresh"}  # fmt: skip


def place_of(preset: Preset, root: Path, table: str = "main", variant: str = "default") -> Place:
    plan = make_plan(load_table(table), preset, root, seeds=[0], tune_seeds=[0])
    return next(each for each in plan.places if each.variant == variant)


def slow(preset: Preset, **rate: float) -> Preset:
    """The preset on a device with other rates."""
    return preset.model_copy(update={"rate": preset.rate.model_copy(update=rate), "layers": 4})


def test_a_step_with_adapters_takes_four_flops_and_a_whole_one_six(
    small: Preset, tmp_path: Path
) -> None:
    cells = [
        Cell(place_of(small, tmp_path, "full-finetune", variant), "member", "sft")
        for variant in ("default", "full")
    ]
    adapter, whole = (cell_cost(cell, small).training for cell in cells)
    tokens = 4 * 8 * 40 * PADDING  # steps, batch, tokens of a question
    assert adapter == pytest.approx(4 * 1e6 * tokens / 1e10)
    assert whole == pytest.approx(6 * 1e6 * tokens / 1e10)


def test_gradient_checkpointing_goes_forward_once_more(small: Preset, tmp_path: Path) -> None:
    again = small.model_copy(
        update={"config": merge(small.config, {"train": {"gradient_checkpointing": True}})}
    )

    def training(preset: Preset, variant: str, **rate: float) -> float:
        place = place_of(preset, tmp_path, "full-finetune", variant)
        return cell_cost(Cell(place, "member", "sft"), slow(preset, **rate)).training

    busy = {"launch": 0.0}
    assert training(again, "default", **busy) == pytest.approx(
        6 / 4 * training(small, "default", **busy)
    )
    assert training(again, "full", **busy) == pytest.approx(8 / 6 * training(small, "full", **busy))
    kernels = STEP_KERNELS + FORWARD_KERNELS
    assert training(again, "default", launch=1e-3) == pytest.approx(4 * kernels * 4 * 1e-3)


def test_tokens_are_those_of_the_task(tmp_path: Path) -> None:
    preset = slow(load_preset(LLAMA), launch=0.0)
    plan = make_plan(load_table("main"), preset, tmp_path, seeds=[0], tune_seeds=[0])
    costs = {
        place.task: cell_cost(Cell(place, "member", "sft"), preset).training
        for place in plan.places
    }
    assert costs["boolq"] / costs["openbookqa"] == pytest.approx(151 / 44)


def test_a_small_batch_waits_for_its_kernels(small: Preset, tmp_path: Path) -> None:
    cell = Cell(place_of(small, tmp_path), "member", "sft")
    waiting = cell_cost(cell, slow(small, launch=1e-3)).training
    assert waiting == pytest.approx(4 * STEP_KERNELS * 4 * 1e-3)  # steps x kernels x layers
    busy = cell_cost(cell, slow(small, launch=1e-9)).training
    assert busy == cell_cost(cell, small).training


def test_weights_are_loaded_to_train_and_to_score(small: Preset, tmp_path: Path) -> None:
    place, preset = place_of(small, tmp_path), slow(small, load=1e6)
    one = 4e6 / 1e6  # bytes over bytes a second
    cells = [
        (Cell(place, "prepare"), 1),
        (Cell(place, "member", "sft", 1000), 1),
        (Cell(place, "train", "sft", 0, ("sft", "sft+ts", "sft+platt")), 2),
        (Cell(place, "train", "base", 0, ("base", "base+ts")), 1),
        (Cell(place, "trial", "cols@0.1"), 2),
        (Cell(place, "baseline", "ensemble", 0, ("ensemble", "ensemble+ts")), 1),
    ]
    for cell, loads in cells:
        assert cell_cost(cell, preset).loading == pytest.approx(loads * one), cell.name


def test_weights_kept_in_four_bits_are_loaded_whole(small: Preset, tmp_path: Path) -> None:
    """The file holds them as they are; they are quantised while they are put on the device."""
    quantised = small.model_copy(
        update={"config": merge(small.config, {"model": {"four_bit": True, "dtype": "float32"}})}
    )
    place = place_of(quantised, tmp_path)
    assert place.config.model.four_bit
    found = cell_cost(Cell(place, "member", "sft"), slow(quantised, load=1e6))
    assert found.loading == pytest.approx(4e6 / 1e6)


def test_a_baseline_asks_as_often_as_it_has_passes(small: Preset, tmp_path: Path) -> None:
    place = place_of(small, tmp_path)

    def scoring(kind: Any, method: str, *predicted: str) -> float:
        return cell_cost(Cell(place, kind, method, 0, predicted), small).scoring

    once = scoring("train", "sft", "sft")
    assert scoring("train", "mc_dropout", "mc_dropout") == pytest.approx(2 * once)
    assert scoring("baseline", "ensemble", "ensemble") == pytest.approx(2 * once)
    calibration = scoring("trial", "sft")
    assert scoring("train", "sft", "sft", "sft+ts") == pytest.approx(once + calibration)
    assert scoring("train", "sft", "sft+ts") == pytest.approx(once + calibration)  # made before
    dropout = scoring("train", "mc_dropout", "mc_dropout", "mc_dropout+ts")
    assert dropout == pytest.approx(2 * (2 * once + calibration))
    assert scoring("train", "sft", "sft", "sft+platt") == once  # maps the predictions there are


def test_the_probe_reads_the_whole_pool_in_every_rotation(small: Preset, tmp_path: Path) -> None:
    place = place_of(small, tmp_path)
    read = 16 * 40 * (OPTIONS + 1)
    assert cell_cost(Cell(place, "prepare"), small).probing == pytest.approx(2e6 * read / 1e10)
    open_ended = make_plan(load_table("main"), small, tmp_path, seeds=[0], tune_seeds=[0]).places[1]
    found = cell_cost(Cell(open_ended, "prepare"), small).probing
    assert found == pytest.approx(2e6 * 16 * 40 / 1e10)


def test_an_answer_is_generated_token_by_token(small: Preset, tmp_path: Path) -> None:
    waiting = slow(small, launch=1e-3)
    plan = make_plan(load_table("main"), waiting, tmp_path, seeds=[0], tune_seeds=[0])
    options, generated = (
        cell_cost(Cell(place, "trial", "cols@0.1"), waiting).scoring for place in plan.places
    )
    one_pass = FORWARD_KERNELS * 4 * 1e-3
    assert options == pytest.approx(one_pass)
    assert generated == pytest.approx((2 + 32) * one_pass)


def test_one_probe_a_model_and_task_is_counted(small: Preset, tmp_path: Path) -> None:
    plan = make_plan(load_table("ratio"), small, tmp_path, seeds=[0], tune_seeds=[0])
    costs = [each.cost for each in timed_cells(plan) if each.cell.kind == "prepare"]
    assert len(costs) == 7
    assert [cost.probing > 0 for cost in costs].count(True) == 1


def test_test_questions_that_the_base_model_answered_are_counted_once(
    small: Preset, tmp_path: Path
) -> None:
    plan = make_plan(load_table("ratio"), small, tmp_path, seeds=[0], tune_seeds=[0])
    asked = [each for each in timed_cells(plan) if "base" in each.cell.predicted]
    first, *further = (each.cost.scoring for each in asked)
    assert len(further) == 5
    calibration = cell_cost(Cell(asked[0].cell.place, "trial", "sft"), small).scoring
    assert set(further) == {calibration}
    assert first > calibration


@pytest.mark.parametrize(
    ("method", "every"),
    [("cols@0.1", None), ("cols@0.1", 2), ("cols@0.1", 1.0), ("ls@0.1", None), ("focal@2", 2)],
)
def test_calibration_passes_are_those_of_a_training(
    small: Preset, tmp_path: Path, method: str, every: float | None
) -> None:
    """With the gate open for all, too; of the focal loss from the first step on."""
    train = {
        "steps": 9,
        "style_steps": 2,
        "batch_size": 4,
        "eval_batch_size": 5,
        "threshold_every": every,
    }
    config = merge(small.config, {"train": train})
    preset = slow(small.model_copy(update={"config": config}), launch=1e-3)
    place = place_of(preset, tmp_path)
    console = Console(file=io.StringIO())
    for cell in (Cell(place, "prepare"), Cell(place, "member", method)):
        run_cell(cell, console)
    folder = RunFolder(place.path).train(method, 0)
    taken = len(read_json(folder / "thresholds.json", list))
    cost = cell_cost(Cell(place, "member", method), preset)
    one_pass = 3 * FORWARD_KERNELS * 4 * 1e-3  # half of 24 questions by five
    assert taken > 1
    assert cost.calibration == pytest.approx(taken * one_pass)
    assert cell_cost(Cell(place, "member", "sft"), preset).calibration == 0
    assert cell_cost(Cell(place, "member", "sft-early"), preset).calibration > 0


class Counted(TorchDispatchMode):
    """Counts the operations that compute something: on a GPU each starts a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += call.overloadpacket.__name__ not in VIEWS
        return call(*args, **(kwargs or {}))


def kernels(layers: int) -> tuple[int, int]:
    """Of a forward pass, and of a step, of a Llama in bf16 with LoRA."""
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(**size, num_hidden_layers=layers, vocab_size=20)
    model: Any = LlamaForCausalLM(config).to(torch.bfloat16)
    model = get_peft_model(model, lora_config(8, 16))
    ids = torch.randint(0, 20, (2, 8))
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    # Each in a context of its own, which keeps the cast weights.
    with torch.autocast("cpu", torch.bfloat16), Counted() as step:
        model(**asked, labels=ids).loss.backward()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), Counted() as forward:
        model(**asked)
    return forward.n, step.n


def test_kernels_of_a_layer() -> None:
    two, four = kernels(2), kernels(4)
    forward, step = ((more - few) / 2 for few, more in zip(two, four, strict=True))
    assert forward == pytest.approx(FORWARD_KERNELS, rel=0.1)
    assert step == pytest.approx(STEP_KERNELS, rel=0.1)


def test_the_size_of_an_adapter() -> None:
    with torch.device("meta"):
        heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
        size = {"hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256}
        model = LlamaForCausalLM(LlamaConfig(**size, **heads, num_hidden_layers=32))
    linear = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    width = sum(each.in_features + each.out_features for each in linear)
    assert adapted_width(8.0e9, 32) == pytest.approx(width, rel=0.05)


def test_disk_is_that_of_what_is_kept(tmp_path: Path) -> None:
    preset = load_preset(LLAMA)
    place = place_of(preset, tmp_path)
    kept = cell_cost(Cell(place, "member", "sft"), preset).disk
    assert 80e6 < kept < 90e6
    assert cell_cost(Cell(place, "trial", "cols@0.1"), preset).disk == kept
    full = place_of(preset, tmp_path, "full-finetune", "full")
    assert cell_cost(Cell(full, "member", "sft"), preset).disk == 4 * 8.0e9


def test_checkpoints_hold_adams_state_and_stay_until_the_training_ends(tmp_path: Path) -> None:
    preset = load_preset(LLAMA)
    full = place_of(preset, tmp_path, "full-finetune", "full")
    assert full.config.train.save_every == 500
    five = cell_cost(Cell(full, "member", "sft"), preset).checkpoints  # of 2,500 steps
    assert five == pytest.approx(5 * 12 * 8.0e9)
    place = place_of(preset, tmp_path)
    adapter = cell_cost(Cell(place, "member", "sft"), preset)
    assert adapter.checkpoints == pytest.approx(5 * 3 * adapter.disk)
    early = cell_cost(Cell(place, "member", "sft-early"), preset)
    assert early.checkpoints == pytest.approx(2 * 3 * early.disk)
    assert cell_cost(Cell(place, "prepare"), preset).checkpoints == 0
    none = merge(preset.config, {"train": {"save_every": None}})
    place = place_of(preset.model_copy(update={"config": none}), tmp_path)
    assert cell_cost(Cell(place, "member", "sft"), preset).checkpoints == 0


def test_a_phase_waits_for_the_slowest_of_the_one_before(small: Preset, tmp_path: Path) -> None:
    place = place_of(small, tmp_path)
    cells = [
        TimedCell(Cell(place, "member", "sft", seed), phase, CellCost(setup=3600.0 * long))
        for seed, (phase, long) in enumerate([(0, 1), (1, 1), (1, 1), (1, 2), (2, 1)])
    ]
    assert hours(cells, 1) == pytest.approx(6)
    assert hours(cells, 2) == pytest.approx(1 + 3 + 1)
    assert hours(cells, 9) == pytest.approx(1 + 2 + 1)


def test_the_plan_says_what_it_goes_to(tmp_path: Path) -> None:
    preset, shown = load_preset(LLAMA), io.StringIO()
    plan = make_plan(load_table("main"), preset, tmp_path, seeds=[0], tune_seeds=[0])
    show_plan(plan, 4, Console(file=shown, width=200))
    text = shown.getvalue()
    assert "Of it: training" in text
    assert "GB of trained weights are kept" in text
    assert "15 µs a kernel" in text
    assert "in 4 processes" in text


def test_the_papers_table_for_an_8b_model_takes_a_day_on_four_gpus(tmp_path: Path) -> None:
    """The goal is eight hours. Its row of ours is the one that the first page is about."""
    table = load_table("paper")
    plan = make_plan(table, load_preset(LLAMA), tmp_path, seeds=range(table.seeds), tune_seeds=[0])
    assert 1 < hours(timed_cells(plan), 4) <= 8
    assert table.methods[-1] == "cols-options-gap"
    assert "what we recommend (cols-options-gap)" in table.note
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert "**CoLS-options-gap**, on the right, is the default" in readme


def test_what_an_estimate_needs_is_asked_for(small: Preset, tmp_path: Path) -> None:
    values = small.model_dump(mode="json")
    path = tmp_path / "own.yaml"
    for change, message in (
        ({"rate": {"device": "x", "flops": 1.0, "launch": 1e-5}}, "layers must be given"),
        ({"tokens": {"atlas/country": 40}}, "tokens must name every task.*atlas/capital"),
    ):
        path.write_text(str(values | change).replace("None", "null"), encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_preset(str(path))
