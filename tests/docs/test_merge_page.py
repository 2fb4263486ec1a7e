"""The page on merging: its options are those of the code, its figures measured."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from cogcalib.cli import merge
from cogcalib.deployment.calibration_file import Calibration, FittedMap
from cogcalib.deployment.folding import TOLERANCE
from cogcalib.deployment.gguf import CONVERTER, VARIABLE
from cogcalib.deployment.merging import APART
from cogcalib.records import DTYPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "merge.md").read_text(encoding="utf-8")
RECORD = ROOT / "experiments" / "merge" / "served_by_llama_cpp.json"


def test_every_option_stands_in_a_table() -> None:
    parser = argparse.ArgumentParser()
    merge.add_options(parser)
    found = {name for action in parser._actions for name in action.option_strings}
    wanted = {name for name in found if name.startswith("--")} - {"--help"}
    assert set(re.findall(r"^\| `(--[\w-]+)` \|", PAGE, re.M)) == wanted
    places = [action.metavar for action in parser._actions if not action.option_strings]
    assert re.findall(r"^\| `([A-Z]+)` \|", PAGE, re.M) == places


def test_names_and_tolerances_are_those_of_the_code() -> None:
    assert f"to {TOLERANCE:.0e} nats".replace("e-04", "e-4") in PAGE
    assert f"refused from {APART['float16']} (float16) or {APART['bfloat16']} (bfloat16)" in PAGE
    assert f"to {APART['float32']:.0e} in\nfloat32".replace("e-04", "e-4") in PAGE
    for name in (CONVERTER, f"${VARIABLE}", *DTYPES, "folded_temperature", "one_token"):
        assert f"`{name}`" in PAGE
    assert Calibration.__dataclass_fields__["folded_temperature"].default is None
    assert FittedMap.__dataclass_fields__["one_token"].default is None


def test_the_figures_are_those_of_the_record() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    f32, f16 = record["by cache"]["f32"], record["by cache"]["f16"]
    rows = re.findall(r"^\| .+ \| ([\d.e-]+) \| ([\d.e-]+) \|$", PAGE, re.M)
    keys = ("server", "logprob", "merged", "without")
    assert rows == [(f"{f32[key]:.1e}", f"{f16[key]:.1e}") for key in keys]
    assert f"temperature of {record['temperature']:.3f}" in PAGE
    assert f"test accuracy {100 * f32['accuracy']:.1f} %" in PAGE
    assert f"{record['questions']} test questions" in PAGE
    assert f"trained on {4 * record['steps']} questions of `{record['task']}`" in PAGE
