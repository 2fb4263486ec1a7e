"""The page on probing: its command on its table, its columns, its Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.knowledge import CATEGORIES, load_probe
from cogcalib.knowledge.probe_rows import SCHEMA
from cogcalib.modeling import load_tokenizer, to_dataset

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "probe.md").read_text(encoding="utf-8")


def test_the_command_for_own_questions_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"```csv\n(.+?)```", PAGE, re.S)
    table = (ROOT / "examples" / "own_questions.csv").read_text(encoding="utf-8")
    assert table.startswith(shown)
    (command,) = re.findall(r"^cogcalib (probe .*--data.*)$", PAGE, re.M)
    monkeypatch.chdir(ROOT)
    assert cli.main([*shlex.split(command), "--output", str(tmp_path)]) == 0
    assert "capitals" in capsys.readouterr().out
    probe = load_probe(tmp_path)
    assert len(probe) == len(table.splitlines()) - 1
    rows = to_dataset(probe.examples, load_tokenizer("atlas"), known=probe.known("HighlyKnown"))
    assert "known" in rows.column_names


def test_every_column_and_category_is_explained() -> None:
    table = PAGE[PAGE.index("| column | meaning |") :]
    shown = [name for line in table.split("\n\n")[0].splitlines() for name in line.split("|")[1:2]]
    assert set(re.findall(r"`(\w+)`", " ".join(shown))) == set(SCHEMA.names)
    for category in CATEGORIES:
        assert f"| {category} |" in PAGE
