"""The page on scoring: its options, keys, row and errors are those of the code."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from cogcalib.cli import build_parser, main
from cogcalib.records import Prediction
from cogcalib.scoring import MULTIPLE_CHOICE, OPEN_ENDED, read_predictions

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")


def score_options() -> set[str]:
    verbs = next(a for a in build_parser("score")._actions if isinstance(a.choices, dict))
    found = {name for action in verbs.choices["score"]._actions for name in action.option_strings}
    return {name for name in found if name.startswith("--")} - {"--help"}


def test_every_option_stands_in_a_table() -> None:
    assert set(re.findall(r"^\| `(--[\w-]+)` \|", PAGE, re.M)) == score_options()


def test_every_key_stands_there_in_order() -> None:
    table = PAGE.partition("| key | value |")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [
        field.name for field in fields(Prediction)
    ]
    for name in (*MULTIPLE_CHOICE, *OPEN_ENDED):
        assert f"`{name}`" in table


def test_the_row_is_one_and_the_errors_are_those(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (row,) = re.findall(r"```json\n(.+?)\n```", PAGE)
    path = Path("predictions.jsonl")
    path.write_text(row + "\n")
    assert read_predictions(path)[0].confidence == {"options": 0.9}
    assert main(["report", "predictions.jsonl"]) == 0
    good = [{**json.loads(row), "id": f"q{number}"} for number in range(3)]
    bad = json.loads(row)
    wrong = [
        {key: value for key, value in bad.items() if key != "nll"},
        {**bad, "correct": 1},
        {**bad, "score": 1},
    ]
    for fourth in wrong:
        path.write_text("".join(json.dumps(line) + "\n" for line in [*good, fourth]))
        assert main(["report", "predictions.jsonl"]) == 2
        assert capsys.readouterr().err in PAGE
