"""The verb ``probe``: a table of one's own, exit codes, what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.knowledge import load_probe

QUESTIONS = """question,answer,aliases
In which country is the city of Lyon?,France,
In which country is the city of Pune?,India,Bharat
In which country is the city of Lima?,Peru,
"""


def test_own_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, folder = tmp_path / "own.csv", tmp_path / "out"
    table.write_text(QUESTIONS, encoding="utf-8")
    words = ["probe", "--model", "atlas", "--data", str(table), "--output", str(folder)]
    words += ["--shots", "1", "--prompts", "2"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "HighlyKnown" in out
    assert str(folder / "probe.html") in out
    assert len(load_probe(folder)) == 3
    assert cli.main(words) == 0
    assert "3 questions were there from before" in capsys.readouterr().out
    assert cli.main([*words, "--seed", "1"]) == 2
    assert "different configuration" in capsys.readouterr().err


def test_sampled_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", "--model", "atlas", "--task", "atlas/country-open", "--limit", "6"]
    words += ["--mode", "sampled", "--samples", "3", "--prompts", "2", "--shots", "1"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "Unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--task", "nothing"], "task must be one of"),
        (["--task", "atlas/country-open", "--mode", "guess"], "mode must be one of exact, sampled"),
        (["--data", "absent.csv"], "no such data file"),
        (["--task", "atlas/capital"], "split must be one of test"),
    ],
)
def test_wrong_input_is_exit_code_2(
    words: list[str],
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["probe", "--model", "atlas", *words]) == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
