"""Option labels of several tokens: scored by their likelihood, refused before any training."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from cogcalib import pipeline
from cogcalib.harness.config import parse_config
from cogcalib.jsonl import write_jsonl
from cogcalib.modeling import audit_labels, encode_batch, load_model, to_dataset
from cogcalib.records import InputError
from cogcalib.scoring import ScoreSettings, score
from cogcalib.tasks import load_task

TASK = """
name: statements
description: true or false
licence: none
kind: multiple-choice
source:
  parts:
    all: {file: statements.jsonl}
question: "Is it so that {text}?"
options: {texts: ["no", "yes"], labels: [0, 1], letters: ["Falsehood", "Verity"]}
answer: so
splits:
  train: {part: all, share: 0.5}
  calibration: {part: all, share: 0.2}
  test: {part: all, share: 0.3}
"""


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    rows = [{"text": f"{n} is more than {20 - n}", "so": int(n > 10)} for n in range(20)]
    write_jsonl(tmp_path / "statements.jsonl", rows)
    path = tmp_path / "statements.yaml"
    path.write_text(TASK)
    return path


def test_encoding_for_training_refuses_them(task_file: Path) -> None:
    _, tokenizer = load_model("atlas")
    examples = load_task(task_file).splits["train"]
    message = r"option letter 'Falsehood' must be one single token.*can be scored.*not trained on"
    for encode in (encode_batch, to_dataset):
        with pytest.raises(ValueError, match=message):
            encode(examples, tokenizer)
    audit = audit_labels(examples, tokenizer)
    assert audit is not None
    assert not audit.single
    assert {label.form for label in audit.labels} == {"several"}


def test_scoring_takes_them(task_file: Path) -> None:
    model, tokenizer = load_model("atlas")
    examples = load_task(task_file).splits["test"]
    rows = score(model, tokenizer, examples, ScoreSettings(answer="label"))
    assert {row.prediction for row in rows} <= {"Falsehood", "Verity"}
    assert all(len(row.option_logprobs or ()) == 2 for row in rows)


@pytest.mark.parametrize("where", ["tasks.train", "tasks.out_of_domain"])
def test_a_run_refuses_them_before_any_work(task_file: Path, tmp_path: Path, where: str) -> None:
    value = f"[{task_file}]" if where.endswith("domain") else str(task_file)
    config = parse_config("name: several\nmethods: [base, sft]", [f"{where}={value}"])
    with pytest.raises(InputError, match="'Falsehood' must be one single token"):
        pipeline.run(config, tmp_path / "runs", Console(quiet=True))
    assert not (tmp_path / "runs").exists()
