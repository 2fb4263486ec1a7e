"""README: short, its words explained before they are used, its code run, every default named."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from pages import ROOT, blocks
from trl import SFTConfig

from cogcalib import CogCalibConfig

PAGE = ROOT / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
TERMS = (
    *("known", "gate", "threshold", "calibration split", "penalty", "support"),
    *("CoLS", "CoMbLS", "CoECP", "CoLS-options-gap"),
    *("ECE", "Brier score", "NLL", "AURC", "SFT", "+ TS", "+ Platt", "trustworthy"),
)


def test_it_is_short_and_says_early_when_not_to_use_it() -> None:
    assert len(TEXT.splitlines()) < 200
    assert TEXT.index("## When not to use it") < TEXT.index("## Use it")
    assert TEXT[: TEXT.index("## When not to use it")].count("\n") < 60
    section = TEXT.partition("## When not to use it\n\n")[2].partition("\n## ")[0]
    assert section.partition("\n\n")[2].strip().startswith("No result here")  # one list


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_explained_where_it_is_first_used(term: str) -> None:
    shown = re.sub(r"\]\([^)]*\)", "]", TEXT)
    first = re.search(rf"(?<![\w-]){re.escape(term)}(?![\w-])", shown)
    assert first is not None
    assert shown[first.start() - 2 : first.end() + 2] == f"**{term}**"
    assert first.start() < shown.index("<!-- table demo")


def test_both_blocks_run_as_they_stand(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first by the fixture; the second asks what it left."""
    monkeypatch.chdir(trained)
    assert (trained / "out" / "calibration.json").is_file()
    _, ask = blocks(PAGE)
    assert len(ask.replace("\n\n", "\n").splitlines()) <= 4
    exec(compile(ask, "README.md", "exec"), {})
    answer, confidence = capsys.readouterr().out.split()
    assert answer in "AB"
    assert 0.5 <= float(confidence) <= 1


def test_every_setting_stands_there_with_its_default() -> None:
    section = " ".join(TEXT.partition("## Settings")[2].partition("## Results")[0].split())
    own = {each.name for each in fields(SFTConfig)}
    for each in (each for each in fields(CogCalibConfig) if each.name not in own):
        default = json.dumps(each.default) if isinstance(each.default, str) else repr(each.default)
        assert re.search(rf"`{each.name}` (\| )?`{re.escape(default)}`", section), each.name
