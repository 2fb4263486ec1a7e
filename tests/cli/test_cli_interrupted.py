"""Ctrl-C: every verb says what is kept and how that verb goes on."""

from __future__ import annotations

import pytest

from cogcalib import cli

SCORE = ["score", "--model", "m", "--task", "t"]
SERVED = [*SCORE, "--endpoint", "http://localhost:1"]


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("score", SCORE, "; no predictions were written"),
        ("score", [*SCORE, "--output", "o.jsonl"], "; no predictions were written"),
        ("score", SERVED, "; no predictions were written"),
        ("score", [*SERVED, "--output", "o.jsonl"], "the same command goes on from there"),
        ("run", ["run", "c.yaml"], "; finished stages are kept, --resume goes on"),
        ("tune", ["tune", "c.yaml"], "; what is finished is kept, the same command goes on"),
        ("probe", ["probe", "--model", "m", "--task", "t"], "the same command goes on"),
        ("report", ["report", "rows.jsonl"], "cogcalib: interrupted\n"),
    ],
)
def test_an_interrupted_verb_says_how_it_goes_on(module, words, said, capsys, monkeypatch):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    interrupt.__module__ = f"cogcalib.cli.{module}"
    monkeypatch.setattr(f"cogcalib.cli.{module}._{module}", interrupt)
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert ("--resume" in error) == (module == "run")
