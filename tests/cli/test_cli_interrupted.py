"""Ctrl-C: every verb says what is kept and how that verb goes on."""

from __future__ import annotations

import pytest

from cogcalib import cli

SCORE = ["score", "--model", "atlas", "--task", "atlas/country"]
SERVED = [*SCORE, "--endpoint", "http://localhost:1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (SCORE, "; no predictions were written"),
        ([*SCORE, "--output", "o.jsonl"], "; no predictions were written"),
        (SERVED, "; no predictions were written"),
        ([*SERVED, "--output", "o.jsonl"], "; nothing was answered, so nothing is kept"),
        ([*SERVED, "--output", "begun.jsonl"], "the same command goes on from there"),
        (["run", "c.yaml"], "; finished stages are kept, --resume goes on"),
        (["demo"], "; what is finished is kept, the same command goes on"),
        (["tune", "c.yaml"], "; what is finished is kept, the same command goes on"),
        (["probe", "--model", "atlas", "--task", "atlas/country"], "the same command goes on"),
        (["report", "rows.jsonl"], "cogcalib: interrupted\n"),
    ],
)
def test_an_interrupted_verb_says_how_it_goes_on(words, said, capsys, monkeypatch, tmp_path):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun.jsonl.journal").touch()
    monkeypatch.setattr(f"cogcalib.cli.{words[0]}.execute", interrupt)
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert ("--resume" in error) == (words[0] == "run")
