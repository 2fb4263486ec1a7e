"""The page on the configuration file names every key, with the default it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from cogcalib.harness.config.methods import GATES, STEMS
from cogcalib.harness.config.sections import Config
from cogcalib.records import Threshold
from cogcalib.training.alpha_controller import AlphaStep
from cogcalib.training.metrics import of_method
from cogcalib.training.state import KnowledgeState

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \|", re.MULTILINE)


def keys(section: BaseModel | type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> default, sections also as a whole except those at the top."""
    model = section if isinstance(section, type) else type(section)
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default = field.default
        if not isinstance(default, BaseModel):
            found[prefix + name] = list(default) if isinstance(default, tuple) else default
            continue
        if prefix:
            found[prefix + name] = default.model_dump(mode="json")
        if set(type(default).model_fields) != {"vocab", "options"}:
            found |= keys(default, f"{prefix}{name}.")
    return found


def test_every_key_stands_there_with_its_default() -> None:
    keys_table = PAGE.read_text(encoding="utf-8").partition("## Names of methods")[0]
    shown = dict(ROW.findall(keys_table))
    expected = keys(Config)
    assert list(shown) == list(expected)
    for key, text in shown.items():
        if expected[key] is PydanticUndefined:
            assert text == "(required)"
        elif key != "train.alpha":  # its rows follow
            assert yaml.safe_load(text.strip("`")) == expected[key], key


def test_every_stem_and_gate_stands_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in (*STEMS, *(f"-{gate}" for gate in GATES), "+ts"):
        assert f"`{name}`" in text


def test_every_value_that_is_logged_stands_there() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## The log")[2].partition("\n## ")[0]
    shown = {
        key
        for names in re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
        for key in names.split(", ")
    }
    threshold = Threshold(1.0, separation=0.5, accuracy=0.8, n_known=3, n_unknown=2)
    step = AlphaStep(step=1, confidence=0.9, accuracy=0.6, alpha=0.3, integral=0.0)
    sums = dict.fromkeys(("ce", "penalty", "n_tokens", "n_units", "gate_rate", "n_known"), 1.0)
    logged = of_method(sums, KnowledgeState(history=[threshold], alpha_steps=[step]), tuned=True)
    assert shown == {f"`{key}`" for key in logged}
