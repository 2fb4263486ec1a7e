"""The two walks of CONTRIBUTING.md: what they name exists, and the first is the stack as it is."""

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
from cogcalib.losses import Gate
from cogcalib.modeling import load_tokenizer

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


@pytest.mark.parametrize(("title", "hops"), [(GATE, 12), (ALPHA, 8)])
def test_every_stop_exists_and_the_way_is_short(title: str, hops: int) -> None:
    stops = walk(title)
    assert 3 < len(stops) <= hops + 1
    for stop in stops:
        file, function = stop.split(": ")
        assert function in functions(PACKAGE / file), stop


def test_walk_to_the_gate_is_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[str]] = []
    weights = Gate.weights

    def recorded(self: Gate, nll: Tensor, units: slice = slice(None)) -> Tensor:
        frame, stack = sys._getframe(1), ["losses/gates.py: Gate.weights"]
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(PACKAGE):
                stop = f"{file.relative_to(PACKAGE).as_posix()}: {frame.f_code.co_qualname}"
                stack.insert(0, stop)
            frame = frame.f_back
        stacks.append(stack)
        return weights(self, nll, units)

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
    (stack,) = stacks
    start = stack.index("training/trainer.py: CogCalibTrainer.compute_loss")
    assert stack[start:] == walk(GATE)
