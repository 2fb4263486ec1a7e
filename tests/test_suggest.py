"""Every name that is all but one there is, wherever it is given, is told which."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from cogcalib.cli.ledger import _training
from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.deployment.held_out import held_out
from cogcalib.deployment.inputs import to_questions
from cogcalib.deployment.question_files import QuestionRow
from cogcalib.harness.report.comparison import _of_run
from cogcalib.harness.reproduce import load_preset, load_table, make_plan
from cogcalib.harness.run_folder import RunFolder
from cogcalib.modeling import load_tokenizer
from cogcalib.records import Prediction
from cogcalib.scoring import read_predictions
from cogcalib.suggest import any_meant, cut, did_you_mean, hint_first, slip
from cogcalib.tasks import load_table as load_questions
from cogcalib.tasks import load_task
from cogcalib.tasks.prompt_rows import build_row_example
from cogcalib.tasks.read import read_file
from cogcalib.tasks.task_file import read_definition
from cogcalib.training import CogCalibConfig
from cogcalib.training.dataset_checks import data_format

TASK = """
name: mine
description: rows of mine
kind: prompt-completion
source: {parts: {train: {file: a.jsonl}}}
splits: {train: {part: train}}
"""
ROW = {"prompt": "1 + 1 =", "completion": " 2", "options": [" 2", " 3"]}


def renamed(name: str, new: str) -> dict[str, Any]:
    return {new if key == name else key: value for key, value in ROW.items()}


def of_task(text: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        (folder / "task.yaml").write_text(text)
        return read_definition(folder / "task.yaml")

    return read


def of_scored(row: dict[str, Any]) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        (folder / "rows.jsonl").write_text(json.dumps(row))
        (first,) = read_file(folder / "rows.jsonl")
        return build_row_example("mine", first, "test", "1")

    return read


def of_training(row: dict[str, Any]) -> Callable[[Path], Any]:
    return lambda _: data_format(Dataset.from_list([row]), "train_dataset", "text")


def of_plan(**limits: list[str]) -> Callable[[Path], Any]:
    return lambda folder: make_plan(
        load_table("ood"), load_preset("atlas"), folder, seeds=[0], tune_seeds=[0], **limits
    )


def of_config(**settings: Any) -> Callable[[Path], Any]:
    return lambda folder: CogCalibConfig(str(folder), use_cpu=True, **settings)


def of_asked(row: dict[str, Any]) -> Callable[[Path], Any]:
    answers = AnswerFormat("options", "options", options=(" A", " B"))
    return lambda _: to_questions([row], load_tokenizer("atlas"), answers)


def of_held_out(row: dict[str, Any]) -> Callable[[Path], Any]:
    answers = AnswerFormat("open-ended", "mean")
    asked = QuestionRow(1, row, "rows.jsonl, row 1")
    return lambda _: held_out("rows.jsonl", [asked], load_tokenizer("atlas"), answers, {})


def of_predictions(folder: Path) -> Any:
    names = {field.name: None for field in fields(Prediction)}
    row = {"confidnce" if name == "confidence" else name: None for name in names}
    (folder / "sft.jsonl").write_text(json.dumps(row))
    return read_predictions(folder / "sft.jsonl")


def of_compared(_: Path) -> Any:
    run: Any = SimpleNamespace(
        rows=[{"method": "cols", "split": "test"}], folder=RunFolder(Path("run"))
    )
    return list(_of_run(run, "run", "colls"))


def of_probed(folder: Path) -> Any:
    (folder / "q.csv").write_text("question,answer,alias\nWho?,me,I\n")
    return load_questions(folder / "q.csv")


def of_ledger(folder: Path) -> Any:
    ledger = folder / "train" / "cols" / "seed-0" / "ledger"
    ledger.mkdir(parents=True)
    (ledger / "steps-000000000-000000005-rank-0.parquet").touch()
    return _training(folder, "colls", None)


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a key of a task file": (of_task(TASK.replace("source", "sourc")), "source"),
    "a key inside one": (of_task(TASK.replace("{file", "{flie")), "file"),
    "a row's prompt": (of_scored(renamed("prompt", "promt")), "prompt"),
    "a row's options": (of_scored(renamed("options", "option")), "options"),
    "a column to train on": (of_training(renamed("completion", "completions")), "completion"),
    "a column of options": (of_training(renamed("options", "option")), "options"),
    "a row of a table": (of_plan(limit_methods=["colls"]), "cols"),
    "a task of a model": (of_plan(limit_tasks=["atlas/contry"]), "country"),
    "a model": (lambda _: load_preset("atlsa"), "atlas"),
    "a model by its last part": (lambda _: load_preset("llama-3-8b"), "meta-llama/Meta-Llama-3-8B"),
    "a task": (lambda _: load_task("contry"), "atlas/country"),
    "a prompt to be answered": (of_asked({"promt": "A:"}), "prompt"),
    "options to choose from": (of_asked({"prompt": "A:", "optoins": [" A", " B"]}), "options"),
    "a question's options": (of_asked({"question": "Who?", "option": ["x", "y"]}), "options"),
    "a passage": (of_asked({"question": "Who?", "passages": "He."}), "passage"),
    "a template's tools": (of_asked({"messages": [{}], "tool": []}), "tools"),
    "an answer held out": (of_held_out({"question": "Who?", "anwser": "me"}), "answer"),
    "aliases held out": (of_held_out({"question": "Who?", "answer": "I", "alias": []}), "aliases"),
    "a table's column": (of_probed, "aliases"),
    "a key of a prediction": (of_predictions, "confidence"),
    "a method to compare": (of_compared, "cols"),
    "a training with a ledger": (of_ledger, "cols"),
    # Not that alpha='gap' needs what was meant.
    "a penalty": (of_config(penalty="labelsmoothing", alpha="gap"), "label_smoothing"),
    "a support": (of_config(support="option"), "options"),
    "a gate": (of_config(gate="invert"), "inverted"),
    "a unit": (of_config(unit="tokens"), "token"),
    "a word for alpha": (of_config(alpha="gaps"), "gap"),
    "a setting of ours": (of_config(suport="options"), "support"),
    "a setting of TRL's": (of_config(learning_rates=1e-4), "learning_rate"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_meant_is_named(case: str, tmp_path: Path) -> None:
    read, meant = CASES[case]
    with pytest.raises(
        (ValueError, TypeError, FileNotFoundError), match=f"; did you mean '{meant}'?"
    ):
        read(tmp_path)


def test_the_last_part_of_a_name_is_enough_and_case_does_not_count() -> None:
    names = ["meta-llama/Llama-2-13b-hf", "meta-llama/Meta-Llama-3-8B", "Qwen/Qwen2.5-7B", "atlas"]
    for got, meant in (
        ("llama-3-8b", names[1]),
        ("LLAMA-2-13B", names[0]),
        ("qwen2.5-7b", names[2]),
        ("qwen/qwen2.5-7b", names[2]),
        ("Atlas", "atlas"),
    ):
        assert did_you_mean(got, names) == f"; did you mean {meant!r}?"
    assert did_you_mean("gpt", names) == did_you_mean("atlas", names) == ""
    # A whole name is meant rather than another's last part.
    assert did_you_mean("lw", ["mmlu/law", "law"]) == "; did you mean 'law'?"


def test_the_hint_stands_before_what_is_long() -> None:
    meant = did_you_mean("contry", ["country"])
    said = "no 'contry'; did you mean 'country'? There are country"
    assert hint_first("no 'contry'", meant, "there are country") == said
    assert hint_first("no 'x'", "", "there are country") == "no 'x'; there are country"


def test_only_a_lacking_name_can_be_meant() -> None:
    assert any_meant(["prompt", "prompts"], ["prompt", "completion"]) == ""
    assert any_meant(["answr"], ["answer"]) == "; did you mean 'answer'?"
    assert any_meant(["id", "answr"], ["answer"]) == "; did you mean 'answer' by 'answr'?"
    assert slip(["options", "option"], ("options",)) == ""
    assert slip(["question", "chosen"], ("options", "option_ids")) == ""


def test_a_keyword_like_none_there_is_raises_as_in_any_data_class(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'xyzzy'"):
        of_config(xyzzy=1)(tmp_path)
    signature = inspect.signature(CogCalibConfig)
    assert {"output_dir", "penalty", "support"} <= set(signature.parameters)


def test_long_text_says_that_there_was_more() -> None:
    assert cut("a" * 80) == "a" * 80
    assert cut("a" * 81) == "a" * 79 + "…"
    assert cut("abcdef", 4) == "abc…"
