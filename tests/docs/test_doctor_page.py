"""The pages on doctor and model card: their names are those of the code."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from cogcalib.cli import doctor, findings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "doctor.md").read_text(encoding="utf-8")
CARD = (DOCS / "model-card.md").read_text(encoding="utf-8")


def test_every_option_and_section_is_told() -> None:
    parser = argparse.ArgumentParser()
    doctor.add_options(parser)
    options = {name for action in parser._actions for name in action.option_strings}
    for option in options - {"-h", "--help"}:
        assert f"`{option}`" in PAGE
    sections = set(re.findall(r"^\| (\w+) \|", PAGE, re.M)) - {"section"}
    assert sections == {"packages", "extras", "devices", "hub", "folders", "model"}
    assert f"within {findings.HUB_TIMEOUT:g} seconds" in PAGE


def test_code_of_the_card_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cogcalib.deployment.calibration_file import (
        AnswerFormat,
        Calibration,
        ModelIdentity,
        write_calibration,
    )

    model = ModelIdentity("atlas", None, None, "ab")
    write_calibration(tmp_path / "out", Calibration(model, AnswerFormat("options", "options")))
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", CARD, re.S)
    exec(code, {})
    assert "owner/data" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
