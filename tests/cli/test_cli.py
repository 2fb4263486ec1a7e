"""The command line: exit codes, and messages for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_world import small_world as small_world

from cogcalib import cli
from cogcalib.harness.report import load_run
from cogcalib.harness.report.headline import headline
from cogcalib.harness.report.summary import group_rows

SMALL = [
    "-o", "methods=[base, sft]",
    "-o", "tasks.limit={train: 32, calibration: 32, test: 32}",
    "-o", "tasks.out_of_domain=[]",
    "-o", "train.steps=3",
    "-o", "train.style_steps=1",
    "-o", "report.resamples=20",
]  # fmt: skip


def test_demo_runs_and_shows_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--runs", str(tmp_path), *SMALL]) == 0
    out = capsys.readouterr().out
    assert "ECE in these sentences" in out
    assert "report.html" in out
    assert (tmp_path / "demo" / "report.html").is_file()
    done = load_run(tmp_path / "demo")
    verdict = headline(done, group_rows(done.rows, in_domain=done.trained_on)[0])[0]
    assert out.split()[-len(verdict.split()) :] == verdict.split()  # the last word
    assert cli.main(["report", str(tmp_path / "demo")]) == 0
    assert "ECE" in capsys.readouterr().out
    other = [*SMALL, "-o", "train.learning_rate=3e-3"]
    assert cli.main(["demo", "--runs", str(tmp_path), *other]) == 2
    assert "different configuration" in capsys.readouterr().err
    assert cli.main(["demo", "--runs", str(tmp_path), "--fresh", *other]) == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["run", "absent.yaml"], "no such configuration file"),
        (["demo", "-o", "train.stps=1"], "train.stps: no such key"),
        (["report", "absent"], "absent"),
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
    assert cli.main(words) == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_usage_errors_are_exit_code_2() -> None:
    for words in ([], ["fly"], ["run"]):
        with pytest.raises(SystemExit) as exit:
            cli.main(words)
        assert exit.value.code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["guard", "out", "--data", "h", "--target-eror", "0.1"],
         "cogcalib guard has no option --target-eror; did you mean '--target-error'?"),
        (["guard", "--dat=h.jsonl"], None),  # options may be cut short
        (["predict", "out", "--jsnol", "-"], "no option --jsnol; did you mean '--json"),
        (["merge", "out", "--ggfu=x"], "no option --ggfu; did you mean '--gguf'?"),
        (["run", "c.yaml", "--frobnicate"], "cogcalib run has no option --frobnicate\n"),
        (["tasks", "--dat-dir", "x"], "cogcalib tasks has no option --dat-dir"),
    ],
)  # fmt: skip
def test_an_option_that_there_is_not_is_named_first(
    words: list[str], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.parse(words)
    assert exit.value.code == 2
    told = capsys.readouterr().err
    assert "required" not in told if said else "required: MODEL, --target-error" in told
    assert (said or "") in told


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_names_an_option_that_it_has_not(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.parse([verb, "--hepl"])
    assert exit.value.code == 2
    assert (
        f"cogcalib {verb} has no option --hepl; did you mean '--help'?" in capsys.readouterr().err
    )


def test_a_typed_question_may_begin_as_an_option_does() -> None:
    assert cli.parse(["predict", "out", "--what is this?"]).questions == "--what is this?"
    assert cli.parse(["predict", "out", "--", "--what?"]).questions == "--what?"


def test_a_failure_while_running_is_exit_code_1(tmp_path: Path) -> None:
    code = (
        "import cogcalib.cli as c\n"
        "def broken(*a, **k): raise RuntimeError('the disk is full')\n"
        "c.VERBS['tasks'].execute = broken\n"
        "raise SystemExit(c.main(['tasks']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "the disk is full" in done.stderr


def test_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks"]) == 0
    assert "atlas/country-open" in capsys.readouterr().out
