"""What only model and machine decide of a configuration is settled before anything is written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from rich.console import Console

import cogcalib
from cogcalib.artifacts import read_json
from cogcalib.cli import main
from cogcalib.harness.config import ConfigError, dump_config, parse_config
from cogcalib.harness.stages import begin, settled, with_steps
from cogcalib.modeling import fingerprint, load_model
from cogcalib.pipeline import run
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


# ---- A revision on the hub, and epochs ----


MAIN, TAGGED = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache with ``org/tiny``: Atlas, and under the tag v1 another in bfloat16."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    held = tmp_path / "cache" / "models--org--tiny"
    (held / "refs").mkdir(parents=True)
    model, tokenizer = load_model("atlas", device="cpu")
    for tag, commit in (("main", MAIN), ("v1", TAGGED)):
        (held / "refs" / tag).write_text(commit)
        folder = held / "snapshots" / commit
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(1.25)
        model.to(torch.bfloat16)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("named", ["v1", TAGGED])
def test_a_revision_is_what_is_loaded(named: str) -> None:
    assert fingerprint("org/tiny")["commit"] == MAIN
    assert fingerprint("org/tiny", named)["commit"] == TAGGED
    main, _ = load_model("org/tiny", dtype="auto", device="cpu")
    tagged, _ = load_model("org/tiny", dtype="auto", device="cpu", revision=named)
    assert (main.dtype, tagged.dtype) == (torch.float32, torch.bfloat16)
    with pytest.raises(ValueError, match=r"model .?org/tiny"):
        load_model("org/tiny", revision="v2")


@pytest.mark.usefixtures("hub")
@pytest.mark.filterwarnings("ignore:(Could not find a config|Unable to fetch remote)")  # PEFT's
def test_a_run_of_a_revision_for_so_many_epochs(tmp_path: Path) -> None:
    config = parse_config(
        "name: x\nmethods: [sft]\nmodel: {path: org/tiny, revision: v1, dtype: float32}\n"
        f"train: {{epochs: 0.5, batch_size: 4}}\n{LIMITS}"
    )
    folder = run(config, tmp_path, Console(file=io.StringIO()))
    assert read_json(folder.record, dict)["model"]["commit"] == TAGGED
    assert read_json(folder.record, dict)["config"]["model"]["revision"] == "v1"
    train = read_yaml(folder.config)["train"]
    assert (train["steps"], train["epochs"]) == (None, 0.5)
    (log,) = (path for _, path in folder.logs())
    last = list(map(json.loads, log.read_text().splitlines()))[-1]
    assert last["step"] == 2  # half of three batches of 12 examples
    trained = folder.train("sft", 0)
    assert read_json(trained / "adapter_config.json", dict)["revision"] == "v1"
    assert read_json(trained / "base_model.json", dict)["commit"] == TAGGED
    # Whoever loads the adapter gets the base that it was trained on.
    ours = load_model("org/tiny", adapter=trained, device="cpu")[0]
    base = load_model("org/tiny", revision="v1", device="cpu")[0]
    assert torch.equal(ours.get_input_embeddings().weight, base.get_input_embeddings().weight)
    assert cogcalib.load(trained).calibration.model.commit == TAGGED


def test_revisions_of_what_is_here_are_refused(stored: Path) -> None:
    for path in ("atlas", str(stored)):
        named = parse_config(f"name: x\nmodel: {{path: {path}, revision: v1}}")
        with pytest.raises(ValueError, match=r"model: revision 'v1' is for a model on the hub"):
            settled(named)


def test_epochs_are_steps_of_the_training_split() -> None:
    config = parse_config("name: x\ntrain: {epochs: 1.5, batch_size: 4, gradient_accumulation: 2}")
    assert config.train.steps is None
    assert with_steps(config, 33).train.steps == 8  # one and a half of five
    assert with_steps(config, 33).train.epochs is None
    given = parse_config("name: x")
    assert with_steps(given, 33) is given
    with pytest.raises(ConfigError, match=r"train\.epochs = 1\.5 of 3 examples.*less than"):
        with_steps(parse_config("name: x\ntrain: {epochs: 1.5, style_steps: 2}"), 3)


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ("{epochs: 2, steps: 10}", "steps and epochs both say how long it trains, got 10 and 2"),
        ("{steps: null}", "steps must be given where epochs is not"),
        ("{epochs: 0}", "train.epochs: .*greater than 0"),
    ],
)
def test_either_steps_or_epochs(train: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_config(f"name: x\ntrain: {train}")
    read_back = parse_config(dump_config(parse_config("name: x\ntrain: {epochs: 2}")))
    assert (read_back.train.steps, read_back.train.epochs) == (None, 2)
