"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")
@pytest.mark.parametrize("name", ["plain_loop", "transformers_trainer"])
def test_the_loss_by_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--steps", "22"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "step 20: t = " in capsys.readouterr().out


def test_training_and_answering_in_fifteen_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = EXAMPLES / "answer_or_abstain.py"
    code = script.read_text(encoding="utf-8").partition('."""\n')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    runpy.run_path(str(script), run_name="__main__")
    said = [
        line.split(maxsplit=1)
        for line in capsys.readouterr().out.splitlines()
        if line[:2] in ("0.", "1.")
    ]
    assert len(said) == 20
    for confidence, answer in said:
        if confidence == "0.40":  # rounded to the bound, from either side
            continue
        assert (answer == "I do not know.") == (float(confidence) < 0.4)
    assert {answer == "I do not know." for _, answer in said} == {True, False}
    assert (tmp_path / "answers" / "calibration.json").is_file()
