"""The two walks of CONTRIBUTING.md: what they name exists, and is what runs."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib import CogCalibConfig, CogCalibTrainer
from cogcalib.harness.config import Method, load_config
from cogcalib.harness.config.train_sections import TrainSection
from cogcalib.harness.stages.train import train_into
from cogcalib.losses import Gate
from cogcalib.losses.fused_pass import FusedPass
from cogcalib.losses.objective import FusedParts
from cogcalib.modeling import load_tokenizer
from cogcalib.records import ProbeRecord
from cogcalib.tasks import load_task

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cogcalib"
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
GATE, ALPHA = "From a batch to the gate", "From `train.alpha` in YAML to the loss"


def walk(title: str) -> list[str]:
    """The stops of a walk, ``file: function``."""
    section = PAGE.partition(f"### {title}\n")[2].partition("\n#")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py: [\w.<>]+)`", section, flags=re.MULTILINE)


def functions(path: Path) -> set[str]:
    """Qualified names of all functions in a file, as Python gives them."""
    found: set[str] = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef):
                found.add(f"{prefix}{child.name}")
                visit(child, f"{prefix}{child.name}.<locals>.")

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


@pytest.mark.parametrize(("title", "hops"), [(GATE, 12), (ALPHA, 9)])
def test_every_stop_exists_and_the_way_is_short(title: str, hops: int) -> None:
    stops = walk(title)
    assert 3 < len(stops) <= hops + 1
    for stop in stops:
        file, function = stop.split(": ")
        assert function in functions(PACKAGE / file), stop


def stack() -> list[str]:
    """The functions of ours that led to the caller of the caller, outermost first."""
    frame, found = sys._getframe(2), []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            stop = f"{file.relative_to(PACKAGE).as_posix()}: {frame.f_code.co_qualname}"
            found.insert(0, stop)
        frame = frame.f_back
    return found


def test_walk_to_alpha_is_what_a_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stacks of calls, and the number that stood in the file at the end of the second."""
    stops, stacks, alphas = walk(ALPHA), [], []
    alpha_of, run = TrainSection.alpha_of, FusedPass.run

    def alpha_of_recorded(self: TrainSection, method: Method) -> float | str:
        stacks.append([*stack(), stops[3]])
        return alpha_of(self, method)

    def run_recorded(self: FusedPass) -> FusedParts:
        stacks.append([*stack(), stops[9]])
        alphas.append(self._objective.alpha)
        return run(self)

    def in_force(self: CogCalibTrainer) -> float:
        asked_by.append(stack()[-1])
        return alpha.fget(self)

    alpha, asked_by = CogCalibTrainer.alpha, []
    monkeypatch.setattr(CogCalibTrainer, "alpha", property(in_force))
    monkeypatch.setattr(TrainSection, "alpha_of", alpha_of_recorded)
    monkeypatch.setattr(FusedPass, "run", run_recorded)
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nmethods: [cols]\nmodel: {lora: {rank: 2}}\n"
        "train:\n  steps: 2\n  batch_size: 4\n  style_steps: 1\n"
        "  alpha: {label_smoothing: {vocab: 0.123, options: 0.5}}\n"
    )
    config = load_config(path)
    splits = {name: rows[:8] for name, rows in load_task("atlas/country").splits.items()}
    known = {row.id: ProbeRecord(row.id, "known", 1.0, 1.0, 0.0) for row in splits["train"]}
    method = Method.parse("cols")
    train_into(tmp_path / "out", config, method, 0, splits, known, lambda _: lambda done: None)
    assert alphas == [0.123, 0.123]
    to_alpha, to_loss = stacks[0], stacks[-1]
    start = to_alpha.index(stops[1])
    assert to_alpha[start:] == stops[1:4]
    # Between binding the loss and calling it lies the model, whose head calls it.
    named = [stop for stop in to_loss if stop in stops]
    assert named == [stops[1], *stops[4:6], *stops[7:]]
    assert stops[5] in asked_by
    assert stops[0].endswith(f": {load_config.__name__}")


def test_walk_to_the_gate_is_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[str]] = []
    weights = Gate.weights

    def recorded(
        self: Gate, nll: Tensor, units: slice = slice(None), own: Tensor | None = None
    ) -> Tensor:
        stacks.append([*stack(), "losses/gates.py: Gate.weights"])
        return weights(self, nll, units, own)

    monkeypatch.setattr(Gate, "weights", recorded)
    tokenizer = load_tokenizer("atlas")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    data = [Dataset.from_dict({"input_ids": [[k, 2, 3]], "labels": [[-100, 2, 3]]}) for k in (4, 5)]
    trainer = CogCalibTrainer(
        LlamaForCausalLM(config),
        CogCalibConfig(
            str(tmp_path),
            max_steps=1,
            style_steps=0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
        ),
        *data,
        processing_class=tokenizer,
    )
    trainer.train()
    (found,) = stacks
    start = found.index("training/trainer.py: CogCalibTrainer.compute_loss")
    assert found[start:] == walk(GATE)
