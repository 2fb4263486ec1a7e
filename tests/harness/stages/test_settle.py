"""What only model and machine decide of a configuration is settled before anything is written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cogcalib.artifacts import read_json
from cogcalib.cli import main
from cogcalib.harness.config import parse_config
from cogcalib.harness.stages import begin, settled
from cogcalib.modeling import load_model
from cogcalib.yaml_files import read_yaml


@pytest.fixture(scope="module", params=["bfloat16", "float16"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Atlas in half precision, under a name of its own."""
    folder = tmp_path_factory.mktemp("models") / request.param
    model, tokenizer = load_model("atlas", device="cpu")
    model.to(getattr(torch, request.param)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


LIMITS = "tasks: {limit: {train: 12, calibration: 8, test: 8}}"


def test_a_run_takes_the_weights_own_format(stored: Path, tmp_path: Path) -> None:
    config = parse_config(f"name: x\nmethods: [base]\nmodel: {{path: {stored}}}\n{LIMITS}")
    assert config.model.dtype == "auto"
    out = io.StringIO()
    begun = begin(config, tmp_path / "x", Console(file=out, width=500))
    taken = {"bfloat16": "bfloat16", "float16": "float32"}[stored.name]
    assert begun.context.config.model.dtype == taken
    assert read_yaml(tmp_path / "x" / "config.yaml")["model"]["dtype"] == taken
    assert ("are taken as float32" in out.getvalue()) == (stored.name == "float16")
    begin(config, tmp_path / "x", Console(file=out), resume=True)


def test_atlas_is_what_it_was() -> None:
    config = parse_config("name: x")
    assert settled(config) == (parse_config("name: x\nmodel: {dtype: float32}"), "")
    named = parse_config("name: x\nmodel: {dtype: bfloat16}")
    assert settled(named) == (named, "")


@pytest.mark.filterwarnings("ignore:dtype auto")
def test_score_and_probe_record_what_they_took(stored: Path, tmp_path: Path) -> None:
    taken = {"bfloat16": "bfloat16", "float16": "float32"}[stored.name]
    asked = ["--model", str(stored), "--task", "atlas/country", "--limit", "6"]
    assert main(["score", *asked, "--output", str(tmp_path / "p.jsonl")]) == 0
    assert read_json(tmp_path / "p.jsonl.record.json", dict)["model"]["dtype"] == taken
    assert main(["probe", *asked, "--output", str(tmp_path / "probe")]) == 0
    assert read_yaml(tmp_path / "probe" / "config.yaml")["dtype"] == taken
    # The folder holds that probe, and the same command names it again.
    assert main(["probe", *asked, "--output", str(tmp_path / "probe")]) == 0
    other = {"bfloat16": "float32", "float16": "bfloat16"}[stored.name]
    assert main(["probe", *asked, "--dtype", other, "--output", str(tmp_path / "probe")]) == 2
