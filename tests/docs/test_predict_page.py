"""The page on predictions: its options, keys, rows and Python are those of the code."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

import cogcalib
from cogcalib.cli import main, predict
from cogcalib.deployment import (
    Answer,
    AnswerFormat,
    Calibration,
    write_calibration,
)
from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.identity import identify
from cogcalib.deployment.predictor import CHUNK
from cogcalib.modeling import load_model

PAGE = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")


def keys_of(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w-]+)` \|", section, re.M)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Atlas in the folder that the page calls so."""
    model, tokenizer = load_model("atlas", device="cpu")
    folder = tmp_path / "out"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    answers = AnswerFormat("options", "options", options=(" A", " B"))
    write_calibration(folder, Calibration(identify(folder, tokenizer), answers))
    monkeypatch.chdir(tmp_path)
    return folder


def test_every_option_stands_in_the_table() -> None:
    parser = argparse.ArgumentParser()
    predict.add_options(parser)
    found = {name for action in parser._actions for name in action.option_strings}
    options = {name for name in found if name.startswith("--")} - {"--help"} | {"--json"}
    assert set(keys_of("Options")) == options
    assert {name.replace("_", "-") for name in ModelAccess.__slots__} <= {
        name.removeprefix("--") for name in options
    }


def test_every_key_of_an_answer_stands_there_in_order() -> None:
    assert keys_of("Answers") == ["id", *(field.name for field in fields(Answer))]


def test_rows_and_python_of_the_page_work(out, tmp_path, capsys) -> None:
    (rows,) = re.findall(r"```json\n(.+?)```", PAGE, re.S)
    (tmp_path / "questions.jsonl").write_text(rows, encoding="utf-8")
    assert main(["predict", "out", "questions.jsonl", "--jsonl"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["id"], second["id"]) == (7, 2)
    assert second["answer"] in ("France", "Peru", "India")
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, re.S)
    exec(compile(code, "predict.md", "exec"), {})
    (expected,) = cogcalib.load("out").predict([json.loads(rows.splitlines()[0])["prompt"]])
    said = capsys.readouterr().out
    assert said == f"{expected.answer} {expected.confidence} False\n"


def test_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"a chunk of {CHUNK} in memory" in PAGE
