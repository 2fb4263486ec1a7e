"""Two processes compute what one does."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_data, make_trainer, weights

from cogcalib.deployment.calibration_file import read_calibration
from cogcalib.knowledge.ledger import read_ledger
from cogcalib.knowledge.ledger_epochs import Passes

SETTINGS: dict[str, Any] = {
    "optim": "sgd",
    "learning_rate": 0.05,
    "max_steps": 3,
    "support": "options",
    "per_device_eval_batch_size": 5,  # 24 examples: 5 batches for 2 ranks, the last is short
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "padding-free": {"padding_free": True, "max_length": None},
    "self-tuned": {"alpha": "auto"},
    "by token": {"unit": "token"},
    "by the gap": {"alpha": "gap", "max_steps": 6},
    "by first labels": {"gate": "prior", "max_steps": 7},
}
UNEVEN: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 2, "learning_rate": 0.0}
"""With 17 examples: the last batches of an epoch are filled up with examples seen already, which
would be learnt twice."""
HELD_OUT = make_data(13, seed=3)
"""To evaluate in batches of 5 on each rank: the last are filled up as well."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train_on_rank(rank: int, port: int, output: Path) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    for name, layout in LAYOUTS.items():
        settings = {**SETTINGS, **layout, "per_device_train_batch_size": 4}
        trainer = make_trainer(output / name, **settings)
        trainer.train()
        result = {
            "history": trainer.threshold_history,
            "weights": weights(trainer),
            "log": trainer.state.log_history,
            "rate": trainer.knowledge.rate,
        }
        torch.save(result, output / f"{name}-{rank}.pt")
    settings = {**SETTINGS, **UNEVEN, "per_device_train_batch_size": 4}
    held_out = {"sft_arguments": {"eval_dataset": HELD_OUT}}
    trainer = make_trainer(output / "uneven", train=make_data(17), **settings, **held_out)
    trainer.train()
    torch.save(trainer.evaluate(), output / f"evaluated-{rank}.pt")
    if trainer.is_world_process_zero():  # as many scripts have it: nobody waits for the others
        trainer.save_model()
    torch.distributed.barrier()
    # A rank that ends while gloo's threads still run is aborted now and then.
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_thresholds_weights_and_log_equal_those_of_one_process(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    torch.multiprocessing.spawn(train_on_rank, (free_port(), tmp_path), nprocs=2)
    for name, layout in LAYOUTS.items():
        with subtests.test(layout=name):
            settings = {**SETTINGS, **layout, "per_device_train_batch_size": 8}
            alone = make_trainer(tmp_path / "alone" / name, **settings)
            alone.train()
            paths = [tmp_path / f"{name}-{rank}.pt" for rank in (0, 1)]
            first, second = (torch.load(path, weights_only=False) for path in paths)
            assert_as_one_process(first, second, alone)
            assert_same_ledger(tmp_path / name, tmp_path / "alone" / name)
            if name == "by the gap":  # from what both have seen
                assert len(alone.knowledge.recent) == 24
                assert len(alone.knowledge.curve.nll) > 1
    with subtests.test("examples that fill up a batch count once"):
        ledger = read_ledger(tmp_path / "uneven")
        assert len(ledger) > 2 * 17
        assert [each.n for each in Passes(ledger).summaries()] == [17, 17]
    with subtests.test("answers are measured once each, by one process or two"):
        settings = {**SETTINGS, **UNEVEN, "per_device_train_batch_size": 8}
        held_out = {"sft_arguments": {"eval_dataset": HELD_OUT}}
        alone = make_trainer(tmp_path / "one", train=make_data(17), **settings, **held_out)
        alone.train()
        alone.save_model()
        expected = answers_of(alone.evaluate())
        for rank in (0, 1):
            found = torch.load(tmp_path / f"evaluated-{rank}.pt", weights_only=False)
            assert answers_of(found) == pytest.approx(expected, rel=1e-3)
        ours, one = (read_calibration(tmp_path / name) for name in ("uneven", "one"))
        assert (ours.answers, ours.trained_on) == (one.answers, one.trained_on)
        assert ours.metrics[0].n == one.metrics[0].n == 24
        for name, value in one.metrics[0].raw.items():
            assert ours.metrics[0].raw[name] == pytest.approx(value, rel=1e-3), name


def answers_of(found: dict[str, float]) -> dict[str, float]:
    names = ("accuracy", "ece", "brier", "aurc", "nll")
    return {name: found[f"eval_{name}"] for name in names}


def assert_same_ledger(ours: Path, alone: Path) -> None:
    found = []
    for folder in (ours, alone):
        rows = read_ledger(folder).to_pylist()
        for name in ("nll", "weight"):
            found.append({(row["example"], row["unit"], row["step"]): row[name] for row in rows})
    assert found[0] == pytest.approx(found[2], rel=1e-4)
    assert found[1] == pytest.approx(found[3], rel=1e-3)


def assert_as_one_process(first: dict[str, Any], second: dict[str, Any], alone: Any) -> None:
    assert first["history"] == second["history"]
    assert first["rate"] == second["rate"] == pytest.approx(alone.knowledge.rate)
    assert first["history"][0] == alone.threshold_history[0]  # before any step: to the bit
    for ours, one in zip(first["history"], alone.threshold_history, strict=True):
        assert ours.value == pytest.approx(one.value, rel=1e-4)
        assert replace(ours, value=0.0) == replace(one, value=0.0)
    for name, value in weights(alone).items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        torch.testing.assert_close(first["weights"][name], value, rtol=1e-5, atol=1e-6)
    for row, alone_row in zip(first["log"][:-1], alone.state.log_history[:-1], strict=True):
        for name in ("loss", "ce", "penalty", "share_known", "entropy", "num_tokens", "threshold"):
            assert row[name] == pytest.approx(alone_row[name], rel=1e-4), name
