"""The check before a plan: what it looks at, what it measures, what it refuses."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections import namedtuple
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_world import small_world as small_world

from cogcalib import cli
from cogcalib.artifacts import read_json
from cogcalib.harness.config import Config, Method
from cogcalib.harness.reproduce import Plan, Preset, load_preset, load_table, make_plan, trial_steps
from cogcalib.harness.reproduce import preflight as room
from cogcalib.harness.reproduce.measured_rates import MEASURED, MeasuredRates, measured_rates
from cogcalib.harness.reproduce.preflight import Checked, preflight, trainings
from cogcalib.harness.stages.train import train_into as train_one
from cogcalib.records import Example
from cogcalib.scoring import score as score_examples


def lay_out(preset: Preset, root: Path, table: str = "main", **kwargs: Any) -> Plan:
    settings = {"seeds": [0], "tune_seeds": [0], "limit_methods": ["sft", "cols"]} | kwargs
    return make_plan(load_table(table), preset, root, **settings)


def checked(plan: Plan, jobs: int = 1, gpus: int = 0, **kwargs: Any) -> dict[str, Checked]:
    told: list[Checked] = []
    found = preflight(plan, jobs, gpus, told.append, **kwargs)
    assert told == found
    return {each.name: each for each in found}


@pytest.fixture(scope="module")
def in_halves(small: Preset) -> Preset:
    model = {"path": "atlas", "dtype": "bfloat16"}
    return small.model_copy(update={"config": small.config | {"model": model}})


def test_gated_steps_and_a_batch_are_timed_in_half_precision(
    in_halves: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Example]] = []

    def scored(model: Any, tokenizer: Any, questions: list[Example], settings: Any) -> Any:
        asked.append(questions)
        return score_examples(model, tokenizer, questions, settings)

    clocks: list[trial_steps._Clock] = []

    class Kept(trial_steps._Clock):
        def __init__(self) -> None:
            super().__init__()
            clocks.append(self)

    trained: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = []

    def train_into(output: Path, config: Config, method: Method, *rest: Any) -> None:
        train_one(output, config, method, *rest)
        history = read_json(output / "thresholds.json", list)
        lines = (output / "log.jsonl").read_text().splitlines()
        trained.append((method.gate, history, list(map(json.loads, lines))))

    monkeypatch.setattr(trial_steps, "score_examples", scored)
    monkeypatch.setattr(trial_steps, "train_into", train_into)
    monkeypatch.setattr(trial_steps, "_Clock", Kept)
    plan = lay_out(in_halves, tmp_path / "runs")
    found = checked(plan)
    assert all(each.passed for each in found.values()), found
    root = tmp_path / "runs" / "small"
    assert [path.name for path in root.iterdir()] == [MEASURED]  # nothing of the training stays
    rates = measured_rates(root)
    assert rates is not None
    assert (rates.model, rates.task, rates.dtype) == ("atlas", "atlas/country", "bfloat16")
    # Twenty steps with the gate, and the median of the times between their ends.
    assert [len(clock.ends) for clock in clocks] == [2 + 20, 2 + 4]
    assert [len(clock.steps()) for clock in clocks] == [19, 3]
    assert rates.step == pytest.approx(median(clocks[0].steps()), abs=1e-5)
    assert 0 < rates.step < 300
    for gate, history, log in trained:
        assert gate == "nll"
        assert history[0]["step"] == 2  # before the first of them
        assert math.isfinite(history[0]["value"])
        assert log[-1]["known_first_epoch"] > 0  # the gate was open
    assert 0 < rates.load < 60
    assert 0 < rates.scored < 60
    assert rates.scored_questions == 64
    assert 10 < rates.scored_tokens / rates.scored_questions < 100
    assert 8 * 10 < rates.step_tokens < 8 * 100  # eight questions a step
    assert 0 < rates.long_step < 300
    assert rates.step_tokens < rates.long_tokens < 8 * 100
    # Something to begin with, the batch, and one answer that is generated.
    assert [len(each) for each in asked] == [2, 64, 1]
    assert asked[2][0].task == "atlas/country-open"
    assert 10_000 < rates.saved < 50_000_000
    assert rates.memory == rates.host > 100_000_000
    assert f"{rates.step:.3f} s each, gated" in found["steps"].text
    count = trainings(plan)
    assert f"{count} trainings of {rates.saved / 1e6:,.1f} MB" in found["disk"].text
    assert list(found)[-1] == "time"
    assert float(found["time"].text.split()[0]) > rates.load + rates.scored


def test_the_task_with_the_most_tokens_is_measured(tmp_path: Path) -> None:
    llama = load_preset("meta-llama/Meta-Llama-3-8B")
    assert trial_steps._longest_place(lay_out(llama, tmp_path)).task == "boolq"
    passages = [
        Example(str(n), "t", "test", "?", None, "a", context="x" * size)
        for n, size in enumerate((5, 9, 1, 7))
    ]
    assert [each.id for each in trial_steps._longest(passages, 2)] == ["3", "1"]


def test_trainings_are_counted_once_whatever_asks_for_them(small: Preset, tmp_path: Path) -> None:
    plan = lay_out(small, tmp_path, limit_methods=["sft", "sft+ts", "base", "mc_dropout"])
    # On each task: SFT, which the trials train, too; MC dropout's own where there are options.
    wanted = {
        (place.task, name)
        for place in plan.shown()
        for name in place.methods
        if name in ("sft", "mc_dropout")
    }
    assert trainings(plan) == len(wanted) == 3


def test_what_is_not_there_is_told_at_once_and_nothing_is_measured(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "measure", lambda *_: pytest.fail("measured"))
    # Without a format the plan would read it off the weights, and say that there are none.
    config = small.config | {"model": {"path": str(tmp_path / "weights"), "dtype": "float32"}}
    elsewhere = small.model_copy(
        update={"config": config, "tasks": {"boolq": {"tasks": {"train": "boolq"}}}}
    )
    found = checked(lay_out(elsewhere, tmp_path / "runs"), data_dir=tmp_path)
    assert not found["weights"].passed
    assert str(tmp_path / "weights") in found["weights"].text
    assert not found["data"].passed
    assert "boolq" in found["data"].text
    assert not found["steps"].passed
    assert not (tmp_path / "runs").exists()


def rates_with(**known: Any) -> MeasuredRates:
    values: dict[str, Any] = {
        "model": "atlas",
        "task": "t",
        "device": "cpu",
        "dtype": "float32",
        "adapter": True,
        "load": 1.0,
        "step": 0.1,
        "step_tokens": 300.0,
        "long_step": 0.2,
        "long_tokens": 900,
        "scored": 1.0,
        "scored_questions": 64,
        "scored_tokens": 2000,
        "saved": 10**9,
        "memory": 10**9,
        "host": 3 * 10**9,
    }
    return MeasuredRates(**values | known)


def with_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    """A file system with so many free bytes."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free))


def test_little_room_is_told(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = rates_with()
    monkeypatch.setattr(room, "measure", lambda *_: rates)
    with_free(monkeypatch, 2e9)
    monkeypatch.setattr(room, "host_memory", lambda: 8 * 10**9)
    plan = lay_out(small, tmp_path)
    found = checked(plan, jobs=4)
    assert not found["disk"].passed
    assert f"{trainings(plan)} trainings of 1,000.0 MB" in found["disk"].text
    assert not found["host memory"].passed
    assert found["host memory"].text == "4 x 3.0 GB of 8.0 GB"
    assert measured_rates(tmp_path / "small") == rates


def test_checkpoints_and_downloads_take_room_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = load_preset("meta-llama/Meta-Llama-3-8B")
    plan = lay_out(preset, tmp_path, "full-finetune", limit_methods=["sft"])
    folder = plan.places[0].path.parent
    folder.mkdir(parents=True)
    monkeypatch.setattr(room, "missing_files", lambda *_: [])
    # Two trainings of every weight; two processes, five checkpoints of 96 GB each.
    whole = [p for p in plan.shown() if p.config.model.lora is None]
    plan = replace(plan, places=tuple(whole), seeds=(0, 1))
    assert trainings(plan) == 2
    with_free(monkeypatch, 1000e9)
    rates = rates_with(saved=32 * 10**9, adapter=False, dtype="bfloat16")
    found = room._disk(plan, rates, 2, drop=False)
    assert "64.0 GB and 960.0 GB of checkpoints while they train, of 1,000.0 GB free" in found.text
    assert not found.passed
    assert room._disk(plan, rates, 1, drop=False).passed
    # What is yet to be downloaded comes on top where the cache is on the same file system.
    with_free(monkeypatch, 550e9)
    assert room._disk(plan, rates, 1, drop=False).passed
    monkeypatch.setattr(room, "missing_files", lambda *_: ["model-00001-of-00004.safetensors"])
    monkeypatch.setattr(room, "shares_disk", lambda _: True)
    found = room._disk(plan, rates, 1, drop=False)
    assert "16.0 GB of weights to download" in found.text
    assert not found.passed
    monkeypatch.setattr(room, "shares_disk", lambda _: False)
    assert room._disk(plan, rates, 1, drop=False).passed


def test_weights_to_download_need_room_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = lay_out(load_preset("meta-llama/Meta-Llama-3-8B"), tmp_path)
    asked = []

    def missing(model: str, revision: str | None) -> list[str]:
        asked.append((model, revision))
        return ["model.safetensors"]

    monkeypatch.setattr(room, "missing_files", missing)
    for free, passed in ((15e9, False), (17e9, True)):
        with_free(monkeypatch, free)
        (found,) = room._downloads(plan)
        assert found.name == "cache"
        assert found.passed == passed
        assert f"16.0 GB of weights to download, {free / 1e9:.1f} GB free" in found.text
    assert set(asked) == {("meta-llama/Meta-Llama-3-8B", None)}
    monkeypatch.setattr(room, "missing_files", lambda *_: [])
    assert not list(room._downloads(plan))


def test_processes_that_share_a_device_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [SimpleNamespace(total_memory=100 * 10**9), SimpleNamespace(total_memory=80 * 10**9)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: devices[number])

    def fits(gigabytes: int, jobs: int, gpus: int) -> Checked:
        rates = rates_with(memory=gigabytes * 10**9, host=1)
        return {each.name: each for each in room._memory(rates, jobs, gpus)}["device memory"]

    # Two processes on one device of 100 GB: 90 % in halves.
    assert fits(44, jobs=2, gpus=1).passed
    assert not fits(46, jobs=2, gpus=1).passed
    assert "46.0 GB of the 45.0 GB that a process may take" in fits(46, jobs=2, gpus=1).text
    assert fits(99, jobs=1, gpus=1).passed
    # Whichever device a process gets: the smaller one has 80 GB.
    assert fits(79, jobs=2, gpus=2).passed
    assert not fits(81, jobs=2, gpus=2).passed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 7)
    assert trial_steps._device_peak(host=1) == 7


def test_weights_are_looked_for_at_their_revision(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def access(model: str, revision: str | None) -> tuple[bool, str]:
        asked.append((model, revision))
        return True, "in the cache"

    monkeypatch.setattr(room, "access", access)
    model = {"path": "someone/theirs", "revision": "v2", "dtype": "float32"}
    theirs = small.model_copy(update={"config": small.config | {"model": model}})
    (found,) = room._weights(lay_out(theirs, tmp_path))
    assert found.text == "someone/theirs at v2: in the cache"
    assert asked == [("someone/theirs", "v2")]


def test_a_missing_extra_drops_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "laplace" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    words = ["reproduce", "main", "--model", "atlas", "--dry-run", "--seeds", "1"]
    words += ["--runs", str(tmp_path)]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert 'left out methods: laplace needs laplace-torch: pip install "cogcalib[laplace]"' in (
        said.out + said.err
    )
    # The check says it among what it found, and to a script, too.
    monkeypatch.setattr(room, "_weights", lambda _: [Checked("weights", False, "none")])
    monkeypatch.setattr(room, "_data", lambda *_: [])
    check = [word for word in words if word != "--dry-run"] + ["--check"]
    with pytest.raises(SystemExit):
        cli.main([*check, "--json", str(tmp_path / "found.json")])
    said = capsys.readouterr()
    assert (said.out + said.err).count("left out methods: laplace needs") == 1
    lines = json.loads((tmp_path / "found.json").read_text())
    extras = [line for line in lines if line["name"] == "extras"]
    assert all(line["passed"] for line in extras)
    (said_so,) = [line for line in extras if "laplace needs laplace-torch" in line["text"]]
    assert said_so["text"].startswith("left out methods: ")
    # Asked for by name it is refused, as before.
    assert cli.main([*words, "--limit-methods", "laplace"]) == 2
    assert "laplace needs laplace-torch" in capsys.readouterr().err


def test_the_check_is_a_command_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "main", "--model", "atlas", "--runs", str(tmp_path), "--check"]
    assert cli.main([*words, "--dry-run"]) == 2
    assert "--check and --dry-run are two commands" in capsys.readouterr().err
    broken = [Checked("weights", False, "none")]
    monkeypatch.setattr(room, "preflight", lambda *_, **__: broken)
    with pytest.raises(SystemExit, match="1"):
        cli.main([*words, "--json", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text()) == [
        {"name": "weights", "passed": False, "text": "none"}
    ]
    monkeypatch.setattr(room, "preflight", lambda *_, **__: [Checked("weights", True, "here")])
    assert cli.main(words) == 0


def test_rates_that_were_never_measured_or_cannot_be_read(tmp_path: Path) -> None:
    assert measured_rates(tmp_path) is None
    (tmp_path / MEASURED).write_text('{"model": "atlas"}')
    with pytest.raises(ValueError, match="task"):
        measured_rates(tmp_path)
