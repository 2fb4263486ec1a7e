"""A model by name on a task by name; the files and tables that the command makes of it."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from cogcalib import cli
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.modeling import load_model
from cogcalib.records import Prediction
from cogcalib.scoring import read_predictions
from cogcalib.scoring.config import ScoreTask
from cogcalib.scoring.score_run import score_task
from cogcalib.tasks import Task, load_task


@pytest.fixture(autouse=True)
def few_questions(monkeypatch):
    """The embedded tasks, forty questions a split."""
    monkeypatch.setattr("cogcalib.scoring.score_run.load_task", load_few)


def load_few(name: str, data_dir: Path | None = None, *, prompt: str = "cogcalib") -> Task:
    task = load_task(name, data_dir, prompt=prompt)
    splits = {split: examples[:40] for split, examples in task.splits.items()}
    return Task(task.name, task.description, task.licence, splits)


@pytest.fixture
def adapter(tmp_path) -> Path:
    torch.manual_seed(0)
    model, _ = load_model("atlas")
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_command_writes_predictions_and_prints_the_table(tmp_path, capsys, ending):
    output = tmp_path / f"rows.{ending}"
    words = ["score", "--model", "atlas", "--task", "atlas/country", "--output", str(output)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "15 equal-width bins" in printed
    assert "n = 40" in printed
    assert "softmax over the answer options" in printed
    assert "domain" not in printed, "nobody knows what the model was trained on"
    rows = read_predictions(output)
    assert len(rows) == 40
    assert {(row.model, row.task, row.split) for row in rows} == {
        ("atlas", "atlas/country", "test")
    }
    assert cli.main(words) == 2
    assert f"{output} already exists" in capsys.readouterr().err
    assert read_predictions(output) == rows


def test_report_scores_anybodys_predictions(tmp_path, capsys):
    scored = score_task(ScoreTask(model="atlas", task="atlas/country"), resamples=10)
    other = [
        asdict(row) | {"model": "theirs", "confidence": {"vocab": 0.5}}
        for row in scored.predictions
    ]
    files = [write_jsonl(tmp_path / "ours.jsonl", scored.predictions)]
    files.append(write_jsonl(tmp_path / "theirs.jsonl", other))
    assert cli.main(["report", *map(str, files)]) == 0
    printed = capsys.readouterr().out
    assert "ours" in printed
    assert "theirs" in printed
    assert f"{100 * scored.summary['accuracy']:.1f} [" in printed
    del other[3]["nll"]
    write_jsonl(files[1], other)
    assert cli.main(["report", str(files[1])]) == 2
    assert "theirs.jsonl, row 4: key 'nll' is missing" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "absent.jsonl"), str(files[0])]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "x").mkdir()
    again = write_jsonl(tmp_path / "x" / "ours.jsonl", scored.predictions)
    assert cli.main(["report", str(files[0]), str(again)]) == 0
    assert "x/ours" in capsys.readouterr().out
    assert cli.main(["report", str(again), str(again)]) == 2
    assert "ours.jsonl comes more than once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("rows.csv", "predictions are .jsonl or .parquet"), ("samples", "as files")],
)
def test_what_is_no_report(tmp_path, capsys, name, message):
    (tmp_path / "rows.csv").write_text("a,b")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "samples_task_2026.jsonl").write_text("{}")
    assert cli.main(["report", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_open_ended_questions_have_no_option_to_answer_with(capsys):
    words = ["--model", "atlas", "--task", "atlas/country-open", "--limit", "2"]
    assert cli.main(["score", *words, "--answer", "text"]) == 2
    assert "is for questions with options" in capsys.readouterr().err


def test_report_keeps_models_in_one_file_apart(tmp_path, capsys):
    rows = score_task(ScoreTask(model="atlas", task="atlas/country"), resamples=10).predictions
    other = [asdict(row) | {"model": "theirs"} for row in rows]
    path = write_jsonl(tmp_path / "both.jsonl", [*map(asdict, rows), *other])
    assert cli.main(["report", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "both (atlas" in printed
    assert "both (theirs" in printed


def test_adapter_and_merged_model_score_the_same(adapter, tmp_path):
    model, tokenizer = load_model("atlas", adapter=adapter)
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    asked = {"task": "atlas/country"}
    plain = score_task(ScoreTask(model="atlas", **asked), resamples=1)
    adapted = score_task(ScoreTask(model="atlas", adapter=str(adapter), **asked), resamples=1)
    whole = score_task(ScoreTask(model=str(tmp_path / "merged"), **asked), resamples=1)
    assert adapted.predictions[0].model == f"atlas + {adapter}"
    for one, other in zip(adapted.predictions, whole.predictions, strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)
    assert plain.predictions[0].option_logprobs != pytest.approx(
        adapted.predictions[0].option_logprobs, abs=1e-2
    )


def test_open_ended_tasks_have_an_f1(capsys):
    words = ["score", "--model", "atlas", "--task", "atlas/country-open", "--batch-size", "16"]
    assert cli.main(words) == 0
    assert "Token F1: " in capsys.readouterr().out


def test_options_by_their_text(tmp_path):
    output = tmp_path / "rows.jsonl"
    words = ["score", "--model", "atlas", "--task", "atlas/country", "--answer", "text"]
    assert cli.main([*words, "--output", str(output)]) == 0
    assert list(read_jsonl(output, Prediction)[0].confidence) == ["options"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--split", "validation"], "split must be one of train, calibration, test"),
        (["--output", "rows.csv"], "output must end in .jsonl or .parquet"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
        (["--answer", "index"], "answer must be one of letter, label, text"),
        (["--adapter", "./absent"], "adapter folder ./absent does not exist"),
        (["--data-dir", "./absent"], "data_dir must be an existing folder"),
    ],
)
def test_wrong_input_is_exit_code_2(words, what, capsys):
    assert cli.main(["score", "--model", "atlas", "--task", "atlas/country", *words]) == 2
    assert what in capsys.readouterr().err


def test_four_bits_without_bitsandbytes_say_what_to_install(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else found(name, *rest),
    )
    assert cli.main(["score", "--model", "atlas", "--task", "atlas/country", "--four-bit"]) == 2
    assert 'pip install "cogcalib[4bit]"' in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_four_bits_score_about_the_same():
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (pip install bitsandbytes)")
    asked = {"model": "atlas", "task": "atlas/country"}
    plain = score_task(ScoreTask(**asked), resamples=1)
    small = score_task(ScoreTask(**asked, four_bit=True), resamples=1)
    assert small.predictions != plain.predictions
    assert abs(small.summary["accuracy"] - plain.summary["accuracy"]) < 0.2
