"""Processes started by `accelerate launch` with the files of examples/accelerate work as one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from launched import Job, run, write_jobs
from tiny_run import assert_same_ledgers

from cogcalib.training import CogCalibTrainer
from cogcalib.training.checkpoints import last_complete_checkpoint

HERE = Path(__file__).parent
FILES = HERE.parents[1] / "examples" / "accelerate"
TIMEOUT = 600
"""Seconds after which processes that wait for each other in vain are ended."""

TYPES = {"ddp": "MULTI_CPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
LOGGED = ("loss", "ce", "penalty", "share_known", "gate_rate", "entropy", "num_tokens", "threshold")
BASE = {
    "optim": "sgd",
    "learning_rate": 0.05,
    "max_steps": 3,
    "margin": 1.0,
    "per_device_eval_batch_size": 5,  # 24 examples: 5 batches for 2 processes, the last is short
}
APART = {"average_tokens_across_devices": False}
without_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="needs deepspeed (pip install --no-build-isolation deepspeed)",
)
DEEPSPEED = [
    pytest.param(kind, marks=[without_deepspeed, pytest.mark.slow]) for kind in ("zero2", "zero3")
]


def job(
    name: str, *, batch: int = 8, lora: bool = False, loading: str = "no", **settings: Any
) -> Job:
    return Job(name, batch=batch, lora=lora, loading=loading, settings={**BASE, **settings})


LOSSES = [
    job(
        f"{penalty} {support} {'LoRA' if lora else 'full'}",
        penalty=penalty,
        support=support,
        lora=lora,
    )
    for penalty, support, lora in product(
        ("label_smoothing", "margin"), ("options", "vocab"), (False, True)
    )
]
PAIRWISE = [LOSSES[index] for index in (0, 3, 5, 6)]  # each two settings meet in one of them
LAYOUTS = [
    job("accumulated", gradient_accumulation_steps=2),
    job("padding-free", padding_free=True, max_length=None),
    job("packed", batch=4, packing=True, max_length=24),
    job("loaded", loading="path"),
]
SHARDED_ON_LOADING = job("sharded on loading", loading="sharded")


def launch(kind: str, folder: Path, jobs: list[Job], processes: int = 2) -> tuple[int, str]:
    """Run the jobs with the file for this kind; the exit status and what was printed."""
    write_jobs(folder, jobs)
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(FILES / f"{kind}.yaml")]
    command += ["--num_processes", str(processes), "--main_process_port", "0"]
    with subprocess.Popen(
        [*command, str(HERE / "launched.py"), str(folder)],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends the processes it started
            printed, _ = process.communicate()
            pytest.fail(f"the processes hang:\n{printed}")
    return process.returncode, printed


def results(folder: Path, job: Job, processes: int = 2) -> list[dict[str, Any]]:
    paths = [folder / f"{job.name}-{rank}.pt" for rank in range(processes)]
    return [torch.load(path, weights_only=False) for path in paths]


def assert_all_as_one(
    found: list[dict[str, Any]], alone: dict[str, Any], logged: tuple[str, ...] = LOGGED
) -> None:
    first = found[0]
    for other in found[1:]:
        assert other["knowledge"] == first["knowledge"]
        assert all(torch.equal(other["weights"][name], w) for name, w in first["weights"].items())
    assert first["history"][0] == alone["history"][0]  # before any step: to the bit
    for ours, one in zip(first["history"], alone["history"], strict=True):
        assert ours.value == pytest.approx(one.value, rel=1e-5)
        assert replace(ours, value=0.0) == replace(one, value=0.0)
    assert first["weights"].keys() == alone["weights"].keys()
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-5, atol=1e-6)
    for row, one in zip(first["log"], alone["log"], strict=True):
        ours, theirs = ({k: v for k, v in r.items() if k in logged} for r in (row, one))
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "jobs"),
    [
        ("ddp", [LOSSES[5], SHARDED_ON_LOADING]),
        pytest.param("fsdp2", PAIRWISE, marks=pytest.mark.slow),
        pytest.param("ddp", [*LOSSES, *LAYOUTS], marks=pytest.mark.slow),
        pytest.param("fsdp2", [*LOSSES, *LAYOUTS], marks=pytest.mark.slow),
        *(pytest.param(*kind.values, [*LOSSES, *LAYOUTS], marks=kind.marks) for kind in DEEPSPEED),
    ],
)
def test_two_processes_train_what_one_does(
    tmp_path: Path, kind: str, jobs: list[Job], subtests: pytest.Subtests
) -> None:
    status, printed = launch(kind, tmp_path, jobs)
    assert status == 0, printed
    for one in jobs:
        with subtests.test(job=one.name):
            found = results(tmp_path, one)
            sharded = kind in ("fsdp2", "zero3") or one.loading == "sharded"
            for result in found:
                assert (result["kind"], result["processes"]) == (TYPES[kind], 2)
                assert result["sharded"] == (len(result["weights"]) if sharded else 0)
                assert result["fused"]
            alone = run(one, tmp_path / "alone")
            assert max(row["penalty"] for row in alone["log"]) > 0
            assert_all_as_one(found, alone)


def averaging(name: str, **settings: Any) -> Job:
    return replace(job(name, **{"gate": "oracle", **settings}), uneven=True)


OVER_ALL = averaging("over all")
ON_EACH = [
    averaging(f"on each, {steps} batches", gradient_accumulation_steps=steps, **APART)
    for steps in (1, 2)
]
OURS_WITHOUT_PENALTY = averaging("ours", alpha=0.0, gate="all", **APART)
TRL = averaging("TRL", gate="none", **APART)


@contextmanager
def two_processes_in_one() -> Iterator[None]:
    """Every other micro-batch is the second process's; each one's loss is divided by the tokens of
    its own process, and the gradients are averaged over the two."""
    get_batches, compute = CogCalibTrainer.get_batch_samples, CogCalibTrainer.compute_loss

    def get_batch_samples(self: Any, *arguments: Any) -> tuple[list[Any], Any]:
        batches, items = get_batches(self, *arguments)
        tokens = [(batch["labels"] != -100).sum() for batch in batches]
        for index, batch in enumerate(batches):
            batch["items"] = 2 * sum(tokens[index % 2 :: 2])
        return batches, items

    def compute_loss(self: Any, model: Any, inputs: dict[str, Any], **others: Any) -> Any:
        return compute(self, model, inputs, **{**others, "num_items_in_batch": inputs.pop("items")})

    with (
        patch.object(CogCalibTrainer, "get_batch_samples", get_batch_samples),
        patch.object(CogCalibTrainer, "compute_loss", compute_loss),
    ):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2", *DEEPSPEED])
def test_tokens_averaged_over_all_processes_or_on_each(
    tmp_path: Path, kind: str, subtests: pytest.Subtests
) -> None:
    status, printed = launch(kind, tmp_path, [OVER_ALL, *ON_EACH, OURS_WITHOUT_PENALTY, TRL])
    assert status == 0, printed
    with subtests.test("over all: as one process"):
        assert_all_as_one(results(tmp_path, OVER_ALL), run(OVER_ALL, tmp_path / "alone"))
    for one in ON_EACH:
        with subtests.test(f"{one.name}: the mean of the processes' means"):
            steps = 2 * one.settings["gradient_accumulation_steps"]
            as_one = replace(one, settings={**one.settings, "gradient_accumulation_steps": steps})
            with two_processes_in_one():
                alone = run(as_one, tmp_path / "alone")
            assert max(row["penalty"] for row in alone["log"]) > 0
            # Of several micro-batches the log holds the mean of their means, as TRL's does.
            assert_all_as_one(results(tmp_path, one), alone, logged=("loss", "num_tokens"))
    with subtests.test("without a penalty: as TRL"):
        ours, theirs = results(tmp_path, OURS_WITHOUT_PENALTY)[0], results(tmp_path, TRL)[0]
        for name, weight in theirs["weights"].items():
            torch.testing.assert_close(ours["weights"][name], weight, rtol=1e-5, atol=1e-6)
        for row, one in zip(ours["log"], theirs["log"], strict=True):
            assert row["loss"] == pytest.approx(one["loss"], rel=1e-5)
    with subtests.test("they differ"):
        first, other = results(tmp_path, OVER_ALL)[0], results(tmp_path, ON_EACH[0])[0]
        for row, one in zip(first["log"], other["log"], strict=True):
            assert abs(row["loss"] / one["loss"] - 1) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2", *DEEPSPEED])
def test_three_processes_with_an_unequal_number_of_batches(
    tmp_path: Path, kind: str, subtests: pytest.Subtests
) -> None:
    sizes = [(24, 5), (7, 3), (4, 4), (25, 2)]  # 5, 3, 1 and 13 batches
    jobs = [
        replace(
            job(f"{examples} by {batch}", batch=6, per_device_eval_batch_size=batch),
            calibration=examples,
        )
        for examples, batch in sizes
    ]
    status, printed = launch(kind, tmp_path, jobs, processes=3)
    assert status == 0, printed
    for one in jobs:
        with subtests.test(job=one.name):
            assert_all_as_one(results(tmp_path, one, 3), run(one, tmp_path / "alone"))


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["step", "knowledge", "random"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp2", *DEEPSPEED])
def test_killed_processes_resume_to_the_bit(tmp_path: Path, kind: str, kill: str) -> None:
    settings = {
        "max_steps": 8,
        "style_steps": 1,
        "threshold_every": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "gradient_accumulation_steps": 2,
    }
    whole = Job("whole", dropout=0.2, settings=settings)
    parts = replace(whole, name="parts", kill=kill, kill_at=5 if kill == "step" else 6)
    status, printed = launch(kind, tmp_path, [whole, parts])
    assert status != 0, printed
    assert not list(tmp_path.glob("parts-*.pt"))
    assert last_complete_checkpoint(tmp_path / "parts", "nll") == str(
        tmp_path / "parts" / "checkpoint-3"
    )

    resumed = replace(parts, kill=None, resume=True)
    status, printed = launch(kind, tmp_path, [resumed])
    assert status == 0, printed
    expected = results(tmp_path, whole)
    assert [t.step for t in expected[0]["history"]] == [1, 3, 5, 7]
    assert [result["written"] for result in expected] == [
        ["checkpoint-3", "checkpoint-6", "checkpoint-8"],
        [],
    ]
    for ours, theirs in zip(results(tmp_path, resumed), expected, strict=True):
        assert ours["knowledge"] == theirs["knowledge"]
        assert all(torch.equal(ours["weights"][name], w) for name, w in theirs["weights"].items())
    written = [(tmp_path / name / "thresholds.json").read_bytes() for name in ("whole", "parts")]
    assert written[0] == written[1]
    assert_same_ledgers(tmp_path / "parts", tmp_path / "whole")


LATER: dict[str, dict[str, Any]] = {
    "random": {},
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "batch_rebalance": {"train_sampling_strategy": "batch_rebalance"},
}


@pytest.mark.slow
def test_killed_in_the_second_epoch(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Two steps an epoch; the checkpoint of step 3 lies in the middle of the second."""
    settings = {
        "max_steps": 8,
        "style_steps": 1,
        "save_strategy": "steps",
        "save_steps": 3,
        "gradient_accumulation_steps": 2,
    }
    wholes = [
        Job(f"{name} whole", batch=16, dropout=0.2, settings={**settings, **more})
        for name, more in LATER.items()
    ]
    status, printed = launch("ddp", tmp_path, wholes)
    assert status == 0, printed
    for whole, name in zip(wholes, LATER, strict=True):
        parts = replace(whole, name=f"{name} parts", kill="step", kill_at=5)
        assert launch("ddp", tmp_path, [parts])[0] != 0
        status, printed = launch("ddp", tmp_path, [replace(parts, kill=None, resume=True)])
        assert status == 0, printed
        with subtests.test(name):
            for ours, theirs in zip(
                results(tmp_path, parts), results(tmp_path, whole), strict=True
            ):
                for key, weight in theirs["weights"].items():
                    assert torch.equal(ours["weights"][key], weight), key
            assert_same_ledgers(tmp_path / parts.name, tmp_path / whole.name)
