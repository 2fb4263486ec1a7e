"""Where several GPUs are visible, a run takes one, and says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from small_world import small_world as small_world

from cogcalib import cli
from cogcalib.cli.console import take_one_device
from cogcalib.records import InputError

LITTLE = """
name: little
methods: [sft, cols]
tasks: {train: atlas/country, limit: {train: 32, calibration: 32, test: 32}}
train: {steps: 3, style_steps: 1}
report: {resamples: 20}
"""


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back afterwards
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("verb", ["demo", "run", "tune"])
def test_a_run_takes_one_device(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "little.yaml"
    config.write_text(LITTLE)
    words = {
        "demo": ["demo", *(f"-o{line}" for line in OVERRIDES)],
        "run": ["run", str(config)],
        "tune": ["tune", str(config), "--budget", "1"],
    }[verb]
    assert cli.main([*words, "--runs", str(tmp_path / "runs")]) == 0
    assert "4 GPUs are visible, and a run uses one: CUDA_VISIBLE_DEVICES=0" in (
        capsys.readouterr().err
    )
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


OVERRIDES = [
    "methods=[sft, cols]",
    "tasks.limit={train: 32, calibration: 32, test: 32}",
    "tasks.out_of_domain=[]",
    "train.steps=3",
    "train.style_steps=1",
    "report.resamples=20",
]


@pytest.mark.slow
@pytest.mark.usefixtures("four")
def test_one_of_several_trains_what_one_alone_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "little.yaml"
    config.write_text(LITTLE)
    rows = []
    for count in (4, 0):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        runs = tmp_path / str(count)
        assert cli.main(["run", str(config), "--runs", str(runs)]) == 0
        rows.append(json.loads((runs / "little" / "metrics.json").read_text()))
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("count", "named", "chosen"),
    [(0, None, None), (1, None, None), (1, "3", "3"), (2, None, "0"), (2, "3,1", "3")],
)
def test_which_device_is_taken(
    count: int, named: str | None, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named or "")
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    take_one_device("run")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == chosen


@pytest.mark.parametrize("verb", ["demo", "run", "tune", "reproduce"])
def test_processes_launched_together_are_refused_in_one_line(
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On every rank alike, before any waits for another; nothing is written."""
    config = tmp_path / "little.yaml"
    config.write_text(LITTLE)
    words = {"run": [str(config)], "tune": [str(config)], "reproduce": ["main", "--model=atlas"]}
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        runs = tmp_path / "runs"
        assert cli.main([verb, *words.get(verb, []), "--runs", str(runs)]) == 2
        said = capsys.readouterr().err
        named = "run" if verb == "demo" else verb
        assert said.startswith(f"cogcalib: {named} is one process, and 2 were launched")
        assert said.count("\n") == 1
        assert not runs.exists()


@pytest.mark.parametrize(("gpus", "said"), [(4, "in 4 processes"), (0, "in 1 process")])
def test_reproduce_takes_every_device(
    gpus: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    words = ["reproduce", "main", "--model", "atlas", "--dry-run", "--limit-methods", "sft"]
    assert cli.main([*words, "--seeds", "1"]) == 0
    assert said in capsys.readouterr().out


def test_devices_that_are_shared_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("cogcalib.harness.reproduce.device_memory.check_devices", lambda *_: None)

    def stop(*_: object) -> None:
        raise InputError("far enough")

    monkeypatch.setattr("cogcalib.harness.reproduce.reproduce", stop)
    words = ["reproduce", "main", "--model", "atlas", "--limit-methods", "sft", "--jobs", "3"]
    words += ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert "3 processes on 2 GPUs: each takes at most 45 or 90 % of one's memory" in (
        said.out + said.err
    )
