"""What `cogcalib score` leaves beside its predictions, and what it says of the labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from completion_server import CompletionServer, serve

from cogcalib import cli
from cogcalib.modeling import LabelAudit, audit_labels, load_tokenizer
from cogcalib.scoring import read_predictions
from cogcalib.scoring.score_record import label_line
from cogcalib.tasks import load_task

TASK = """
name: statements
description: true or false
version: 3
licence: CC0
kind: multiple-choice
question: "Is {n} even?"
options: {texts: ["no", "yes"], labels: [0, 1], letters: [LETTERS]}
answer: even
source: {homepage: "https://example.org/numbers", parts: {test: {file: rows.jsonl}}}
splits: {test: {part: test}}
"""
SECRET = "sk-very-secret"


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    rows = [{"n": n, "even": 1 - n % 2} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text(TASK.replace("LETTERS", '"A", "B"'))
    (tmp_path / "long.yaml").write_text(TASK.replace("LETTERS", '"Falsehood", "Verity"'))
    return tmp_path / "own.yaml"


def score(task: Path, output: Path, *words: str) -> int:
    return cli.main(["score", "--task", str(task), "--output", str(output), *words])


def test_a_local_scoring_leaves_its_record(task_file, tmp_path, capsys):
    output = tmp_path / "rows.jsonl.gz.jsonl"
    assert score(task_file, output, "--model", "atlas") == 0
    printed = capsys.readouterr().out
    assert "labels: A B are single tokens after the prompt" in printed
    path = tmp_path / "rows.jsonl.gz.jsonl.record.json"
    assert f"Record: {path}" in printed
    record = json.loads(path.read_text())
    task = record["tasks"]["statements"]
    assert (task["version"], task["licence"], task["prompt"]) == (3, "CC0", "cogcalib")
    assert task["source"] == "https://example.org/numbers"
    assert task["shortened"] == {"test": 0}
    assert [label["letter"] for label in task["labels"]["labels"]] == ["A", "B"]
    assert record["model"] == {
        "name": "atlas",
        "adapter": None,
        "dtype": "float32",
        "four_bit": False,
        "worker": "transformers",
    }
    assert {"cogcalib", "torch", "transformers", "python"} <= set(record["versions"])
    (row,) = record["metrics"]
    assert {"ece_mass", "mce", "smooth_ece", "auroc", "aurc", "selective_accuracy"} <= set(row)
    assert record["data"]["test"]["n"] == row["n"] == len(read_predictions(output))


def test_no_record_is_ever_overwritten(task_file, tmp_path, capsys):
    output = tmp_path / "out.parquet"
    held = tmp_path / "out.parquet.record.json"
    held.write_text("{}")
    assert score(task_file, output, "--model", "atlas") == 2
    assert f"record {held} already exists" in capsys.readouterr().err
    assert (output.exists(), held.read_text()) == (False, "{}")


def test_an_endpoint_leaves_one_too_and_no_key(task_file, tmp_path, monkeypatch, llama, tokenizer):
    monkeypatch.setenv("MY_KEY", SECRET)
    folder = tmp_path / "tokenizer"
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    output = tmp_path / "served.jsonl"
    with serve(CompletionServer(llama, tokenizer)) as server:
        words = ["--endpoint", server.url, "--model", "tiny", "--tokenizer", str(folder)]
        assert score(task_file, output, *words, "--api-key-env", "MY_KEY") == 0
        assert any(SECRET in value for each in server.headers for value in each.values())
    text = (tmp_path / "served.jsonl.record.json").read_text()
    assert SECRET not in text
    record = json.loads(text)
    assert record["model"]["endpoint"] == server.url
    assert record["tasks"]["statements"]["labels"]["single"]
    assert sorted(path.name for path in tmp_path.glob("served*")) == [
        "served.jsonl",
        "served.jsonl.record.json",
    ]


def test_labels_of_several_tokens_are_said_before_and_after(task_file, tmp_path, capsys):
    long = task_file.with_name("long.yaml")
    output = tmp_path / "out.jsonl"
    assert score(long, output, "--model", "atlas") == 2
    assert "must be one single token" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
    assert score(long, output, "--model", "atlas", "--answer", "label") == 0
    assert "labels: Falsehood Verity take several tokens" in capsys.readouterr().out
    output = tmp_path / "text.jsonl"
    assert score(long, output, "--model", "atlas", "--answer", "text") == 0
    assert "labels:" not in capsys.readouterr().out
    record = json.loads((tmp_path / "text.jsonl.record.json").read_text())
    assert record["tasks"]["statements"]["labels"] is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "labels: A B C D are single tokens after the prompt"),
        ({"distinct": False}, "labels: warning: of A B C D some share their tokens"),
        ({"steady": False}, "labels: warning: A B C D are not the same tokens after every prompt"),
    ],
)
def test_the_line_says_what_was_found(changed, said):
    examples = load_task("atlas/country").splits["test"][:4]
    audit = audit_labels(examples, load_tokenizer("atlas"))
    assert audit is not None
    values = {name: getattr(audit, name) for name in LabelAudit.__slots__}
    assert label_line(LabelAudit(**{**values, **changed})) == said
