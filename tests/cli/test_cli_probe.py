"""The verb ``probe``: a table of one's own, exit codes, what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.inference.backend_spec import WORKERS
from cogcalib.knowledge import load_probe
from cogcalib.knowledge.probe_task import ENGINES
from cogcalib.knowledge.slick_settings import MODES
from cogcalib.records import AUTO, DTYPES, PRESETS

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


def test_the_name_of_a_group_is_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = tmp_path / "own.csv", tmp_path / "[b]out"
    groups = ["group", "[/]", "[bold]city", "[/]"]
    rows = zip(QUESTIONS.splitlines(), groups, strict=True)
    table.write_text("".join(f"{row},{group}\n" for row, group in rows), encoding="utf-8")
    words = ["probe", "--model", "atlas", "--data", str(table), "--output", str(folder)]
    assert cli.main([*words, "--shots", "0"]) == 0
    out = capsys.readouterr().out
    assert "[/]" in out
    assert "[bold]city" in out
    assert str(folder / "probe.html") in out


def test_what_a_user_should_know_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = tmp_path / "own.csv", tmp_path / "out"
    repeated = "In which country is the city of Lima?,Peru,\nIn which country is Pune?,India,\n"
    table.write_text(QUESTIONS + repeated, encoding="utf-8")
    words = ["probe", "--model", "atlas", "--data", str(table), "--output", str(folder)]
    assert cli.main([*words, "--shots", "0"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Mode exact, 1 prompt without shots. Without shots all prompts would be alike" in out
    assert "5 questions, fewer than 500: mind the intervals" in out
    assert "Of the table's 5 rows, all of them kept: 1 repeat" in out
    assert "Share % [95 %]" in out
    assert "prompts: 1\n" in (folder / "config.yaml").read_text(encoding="utf-8")
    page = (folder / "probe.html").read_text(encoding="utf-8")
    assert "5 questions, fewer than 500: mind the intervals" in page
    other = ["--output", str(tmp_path / "two"), "--shots", "2", "--prompts", "3"]
    assert cli.main([*words, *other]) == 0
    assert "Mode exact, 3 prompts of 2 shots." in capsys.readouterr().out


def test_help_shows_what_there_is_to_choose(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["probe", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for name, values in (
        ("mode", MODES), ("engine", ENGINES), ("dtype", (AUTO, *DTYPES)), ("prompt", PRESETS),
        ("worker", WORKERS),
    ):  # fmt: skip
        assert f"--{name} {{{','.join(values)}}}" in out
    assert "open-ended only" in out


def test_sampled_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", "--model", "atlas", "--task", "atlas/country-open", "--limit", "6"]
    words += ["--mode", "sampled", "--samples", "3", "--prompts", "2", "--shots", "1"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "Unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--task", "nothing"], "there is no task 'nothing'"),
        (["--task", "atlas/country-open", "--mode", "guess"], "mode must be one of exact, sampled"),
        (["--data", "absent.csv"], "no such data file"),
        (["--task", "atlas/capital"], "split must be test, the only split of task"),
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
