"""Long passages are cut to fit, whatever a question is answered with and wherever its model is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from completion_server import CompletionServer, serve
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib import cli
from cogcalib.modeling import load_tokenizer, shorten_passages
from cogcalib.scoring import ScoreSettings, read_predictions, score
from cogcalib.tasks import load_task

POSITIONS = 64
TASK = """
name: passages
description: ""
kind: multiple-choice
question: "{q}"
context: p
options: {texts: ["not at all", "very much so"], labels: [0, 1], letters: ["Falsehood", "Verity"]}
answer: a
licence: none
source: {parts: {test: {file: rows.jsonl}}}
splits: {test: {part: test}}
"""


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """Four questions about passages far longer than the model, one about a short one."""
    rows = [
        {"q": f"Is {n} cold?", "p": " ".join(["Ice is cold."] * (1 + 30 * min(n, 1))), "a": n % 2}
        for n in range(5)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text(TASK)
    return tmp_path / "own.yaml"


@pytest.fixture
def small() -> LlamaForCausalLM:
    """A model of few positions."""
    torch.manual_seed(0)
    size = len(load_tokenizer("atlas"))
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def saved(small, tmp_path: Path) -> Path:
    small.save_pretrained(tmp_path / "model")
    load_tokenizer("atlas").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("answer", ["label", "text"])
def test_label_and_text_score_long_passages(task_file, small, saved, tmp_path, capsys, answer):
    words = ["score", "--task", str(task_file), "--answer", answer]
    local = tmp_path / "local.jsonl"
    assert cli.main([*words, "--model", str(saved), "--output", str(local)]) == 0
    assert "Passages shortened to fit the model: 4" in capsys.readouterr().out
    rows = read_predictions(local)
    assert len(rows) == 5
    assert all(list(row.confidence) == ["options"] for row in rows)
    tokenizer = load_tokenizer("atlas")
    with serve(CompletionServer(small, tokenizer, positions=POSITIONS)) as server:
        served = tmp_path / "served.jsonl"
        words += ["--endpoint", server.url, "--model", "tiny", "--tokenizer", str(saved)]
        assert cli.main([*words, "--output", str(served)]) == 0
    assert "Passages shortened to fit the model: 4" in capsys.readouterr().out
    for one, other in zip(rows, read_predictions(served), strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-3)


@pytest.mark.parametrize(("answer", "positions"), [("label", 224), ("text", 160)])
def test_passages_leave_room_for_the_shots(task_file, saved, capsys, answer, positions):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    rows = [{"q": f"Is {n} wet?", "p": "Rain is wet.", "a": n % 2} for n in range(4)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (task_file.parent / "train.jsonl").write_text(lines)
    text = task_file.read_text().replace("{test: {file", "{train: {file: train.jsonl}, test: {file")
    task_file.write_text(text.replace("splits: {", "splits: {train: {part: train}, "))
    words = ["score", "--task", str(task_file), "--answer", answer, "--model", str(saved)]
    assert cli.main([*words, "--shots", "2"]) == 0
    assert "Passages shortened to fit the model: 4" in capsys.readouterr().out
    assert cli.main([*words, "--shots", "3", "--shot-split", "test"]) == 2
    assert re.search(r"use fewer shots: they take \d+ of", capsys.readouterr().err)


@pytest.mark.parametrize("answer", ["label", "text"])
def test_no_word_more_would_fit(task_file, small, answer):
    """What is kept fits with the longest answer and leaves no room for another word."""
    examples = load_task(task_file).splits["test"]
    tokenizer = load_tokenizer("atlas")
    fitting, count = shorten_passages(examples, tokenizer, POSITIONS, by_text=answer == "text")
    assert count == 4
    assert fitting[0] == examples[0]
    settings = ScoreSettings(answer=answer)
    assert len(score(small, tokenizer, fitting, settings)) == 5
    for row, whole in zip(fitting[1:], examples[1:], strict=True):
        assert whole.context.startswith(row.context)
        words = len(row.context.split())
        assert words > 3
        assert len(" ".join(whole.context.split()[:words])) == len(row.context)
    # The options take none of the text's room: more of the passage stays.
    shown, _ = shorten_passages(examples, tokenizer, POSITIONS)
    if answer == "text":
        assert len(fitting[1].context) > len(shown[1].context)
