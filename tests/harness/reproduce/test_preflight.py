"""The check before a plan: what it looks at, what it measures, what it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import namedtuple
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from small_world import small_world as small_world

from cogcalib import cli
from cogcalib.harness.reproduce import Plan, Preset, load_preset, load_table, make_plan, trial_steps
from cogcalib.harness.reproduce import preflight as room
from cogcalib.harness.reproduce.device_memory import check_device_memory, check_devices
from cogcalib.harness.reproduce.measured_rates import MEASURED, MeasuredRates, measured_rates
from cogcalib.harness.reproduce.preflight import Checked, preflight, trainings
from cogcalib.records import Example, InputError
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

    monkeypatch.setattr(trial_steps, "score_examples", scored)
    plan = lay_out(in_halves, tmp_path / "runs")
    found = checked(plan)
    assert all(each.passed for each in found.values()), found
    root = tmp_path / "runs" / "small"
    assert [path.name for path in root.iterdir()] == [MEASURED]  # nothing of the training stays
    rates = measured_rates(root)
    assert rates is not None
    assert (rates.model, rates.task, rates.dtype) == ("atlas", "atlas/country", "bfloat16")
    assert 0 < rates.step < rates.step * 20 < 300
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


def test_little_room_is_told(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = MeasuredRates(
        model="atlas",
        task="t",
        device="cpu",
        dtype="float32",
        adapter=True,
        load=1.0,
        step=0.1,
        step_tokens=300.0,
        long_step=0.2,
        long_tokens=900,
        scored=1.0,
        scored_questions=64,
        scored_tokens=2000,
        saved=10**9,
        memory=10**9,
        host=3 * 10**9,
    )
    monkeypatch.setattr(room, "measure", lambda *_: rates)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * 10**9))
    monkeypatch.setattr(room, "host_memory", lambda: 8 * 10**9)
    plan = lay_out(small, tmp_path)
    found = checked(plan, jobs=4)
    assert not found["disk"].passed
    assert f"{trainings(plan)} trainings of 1,000.0 MB" in found["disk"].text
    assert not found["host memory"].passed
    assert found["host memory"].text == "4 x 3.0 GB of 8.0 GB"
    assert measured_rates(tmp_path / "small") == rates


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "the hub gives it"),
        (GatedRepoError, "gated: accept its licence at"),
        (RepositoryNotFoundError, "the hub has none of this name"),
    ],
)
def test_gates_of_the_hub_are_told_apart(
    error: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def auth_check(_: str) -> None:
        if error is not None:
            raise error("no", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "auth_check", auth_check)
    monkeypatch.setattr(room, "mind_the_network", lambda: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = room._on_the_hub("meta-llama/Meta-Llama-3-8B")
    assert found.passed == (error is None)
    assert said in found.text
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = room._on_the_hub("nobody/has-this-in-a-cache")
    assert not found.passed
    assert "not in the cache, and the hub is not asked" in found.text


def test_weights_trained_themselves_are_refused_where_they_cannot_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = load_preset("meta-llama/Meta-Llama-3-8B")
    whole = lay_out(llama, tmp_path, "full-finetune", limit_methods=["sft"])
    with pytest.raises(InputError, match="every weight takes 128 GB, and A100 has 80 GB"):
        check_device_memory(whole, 80e9, "A100")
    check_device_memory(whole, 141e9, "H200")
    adapters = lay_out(llama, tmp_path, limit_methods=["sft"])
    check_device_memory(adapters, 80e9, "A100")
    with pytest.raises(InputError, match="its weights alone take 16 GB"):
        check_device_memory(adapters, 12e9, "RTX")
    # Four devices; eight processes have 45 % of one each.
    memory = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    check_devices(adapters, 8, 4)
    with pytest.raises(InputError, match="A100 has 14 GB for a process"):
        check_devices(adapters, 20, 4)


def test_the_command_refuses_them_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    memory = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    words = ["reproduce", "full-finetune", "--model", "meta-llama/Meta-Llama-3-8B"]
    words += ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "fine-tuning every weight takes 128 GB" in capsys.readouterr().err


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
