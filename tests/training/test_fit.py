"""Fitting from plain settings, killed at any moment and started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from tiny_run import assert_same_ledgers, make_model, make_tokenizer
from trl import SFTTrainer

from cogcalib.deployment.calibration_file import AnswerFormat, read_calibration
from cogcalib.deployment.seen_questions import read_seen
from cogcalib.knowledge.ledger import part_name, read_ledger
from cogcalib.modeling.model_files import fingerprint
from cogcalib.records import Example, Option
from cogcalib.termination import TerminatedError
from cogcalib.training import CogCalibTrainer, FitData, fit

STEPS = 9
SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "style_steps": 2,
    "threshold_every": 2,
    "alpha": 0.3,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
}


def examples(n: int, split: str) -> list[Example]:
    source = random.Random(split)
    return [
        Example(
            id=f"{split}-{index}",
            task="tiny",
            split=split,
            prompt=" ".join(f"w{source.randrange(40)}" for _ in range(6)),
            options=tuple(Option(letter, f"w{source.randrange(40)}") for letter in "ABCD"),
            answer=source.choice("ABCD"),
        )
        for index in range(n)
    ]


def run(output: Path, progress: Any = None, **settings: Any) -> Path:
    train = examples(24, "train")
    data = FitData(train, examples(16, "calibration"), {example.id: True for example in train})
    return fit(
        make_model(attention_dropout=0.2),
        make_tokenizer(),
        data,
        output,
        {**SETTINGS, **settings},
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.1),
        progress=progress,
    )


class Interrupted(Exception):
    """Raised in the middle of a training."""


def interrupt_at(step: int) -> Any:
    def tell(done: int) -> None:
        if done == step:
            raise Interrupted

    return tell


def run_until_killed_while_saving(output: Path, step: int) -> None:
    """Die with the weights of a checkpoint on the disk and the rest of it not."""
    torch.set_num_threads(1)
    save = CogCalibTrainer._save_optimizer_and_scheduler

    def die(self: CogCalibTrainer, folder: str) -> None:
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, folder)

    setattr(CogCalibTrainer, save.__name__, die)
    run(output)


def assert_same_results(first: Path, second: Path) -> None:
    ours, theirs = (load_file(path / "adapter_model.safetensors") for path in (first, second))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    thresholds = [(path / "thresholds.json").read_bytes() for path in (first, second)]
    assert thresholds[0] == thresholds[1]
    assert [row["step"] for row in json.loads(thresholds[0])] == [2, 4, 6, 8]
    assert_same_ledgers(first, second)


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(
        target=run_until_killed_while_saving, args=(tmp_path / "parts", 6)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    partial = tmp_path / "parts.partial"
    assert not (tmp_path / "parts").exists()
    half = partial / "checkpoint-6"
    assert (half / "adapter_model.safetensors").is_file()
    assert not (half / "trainer_state.json").exists()
    # What it saw on the way to the checkpoint that never became one is seen again.
    assert set(read_ledger(partial)["step"].to_pylist()) == set(range(6))

    done: list[int] = []
    run(tmp_path / "parts", progress=done.append)
    assert done == [5, 6, 7, 8, 9]
    assert_same_results(tmp_path / "parts", run(tmp_path / "whole"))


def test_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", progress=interrupt_at(7))
    (tmp_path / "parts.partial" / "checkpoint-6" / "trainer_state.json").unlink()
    done: list[int] = []
    run(tmp_path / "parts", progress=done.append)
    assert done[0] == 5
    assert_same_results(tmp_path / "parts", run(tmp_path / "whole"))


def test_without_a_complete_checkpoint_it_starts_afresh(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", progress=interrupt_at(3))
    (tmp_path / "parts.partial" / "checkpoint-2" / "trainer_state.json").unlink()
    done: list[int] = []
    run(tmp_path / "parts", progress=done.append)
    assert done == list(range(1, STEPS + 1))
    assert_same_results(tmp_path / "parts", run(tmp_path / "whole"))


def terminate_at(step: int) -> Any:
    def tell(done: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return tell


def test_sigterm_makes_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    """Also where none are kept otherwise; the next SIGTERM is nobody's business again."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TerminatedError):
        run(tmp_path / "parts", progress=terminate_at(5), save_strategy="no")
    assert signal.getsignal(signal.SIGTERM) is before
    assert [each.name for each in (tmp_path / "parts.partial").glob("checkpoint-*")] == [
        "checkpoint-5"
    ]
    done: list[int] = []
    run(tmp_path / "parts", progress=done.append, save_strategy="no")
    assert done == [6, 7, 8, 9]
    assert_same_results(tmp_path / "parts", run(tmp_path / "whole", save_strategy="no"))


def test_sigterm_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    output = run(tmp_path / "run", progress=terminate_at(STEPS))
    assert (output / "adapter_model.safetensors").is_file()


def test_result_is_in_place_before_checkpoints_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    removed: list[Path] = []

    def kept(folder: Path) -> None:
        assert (output / "thresholds.json").is_file()
        removed.append(folder)

    monkeypatch.setattr(shutil, "rmtree", kept)
    run(output)
    assert {folder.parent for folder in removed} == {output}


def test_only_the_result_stays(tmp_path: Path) -> None:
    output = run(tmp_path / "run")
    assert output == tmp_path / "run"
    assert not (tmp_path / "run.partial").exists()
    names = {path.name for path in output.iterdir()}
    assert {"adapter_model.safetensors", "thresholds.json", "log.jsonl"} <= names
    assert not any(name.startswith("checkpoint") for name in names)
    with pytest.raises(FileExistsError, match="exists already"):
        run(output)


def test_records_say_which_questions_in_which_words(tmp_path: Path) -> None:
    found = read_calibration(run(tmp_path / "run"))
    assert found.answers == AnswerFormat(
        "options", "options", preset="cogcalib", options=(" A", " B", " C", " D")
    )
    assert found.trained_on["tasks"] == ["tiny"]
    assert found.trained_on["n"] == len(read_seen(tmp_path / "run")) == 24
    assert [each.n for each in found.metrics] == [16]


def test_a_model_trained_whole_is_named_as_its_folder_will_be(tmp_path: Path) -> None:
    train = examples(24, "train")
    data = FitData(train, examples(16, "calibration"), {each.id: True for each in train})
    output = fit(make_model(), make_tokenizer(), data, tmp_path / "whole", SETTINGS)
    found = read_calibration(output).model
    assert (found.name, found.sha256) == ("whole", fingerprint(output)["sha256"])


def test_recording_changes_no_result_and_draws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "recorded")
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    with monkeypatch.context() as plain:
        plain.setattr(CogCalibTrainer, "save_model", SFTTrainer.save_model)
        run(tmp_path / "plain")
    assert not (tmp_path / "plain" / "calibration.json").exists()
    assert_same_results(tmp_path / "recorded", tmp_path / "plain")
    assert torch.equal(after[0], torch.get_rng_state())
    np.testing.assert_array_equal(after[1], np.random.get_state()[1])
    assert after[2] == random.getstate()


def test_what_a_killed_run_left_is_not_called_an_earlier_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = tmp_path / "run.partial" / "ledger" / part_name(0, 1, 0)
    left.parent.mkdir(parents=True)
    left.touch()
    run(tmp_path / "run", max_steps=3, save_strategy="no")
    assert not (tmp_path / "run" / "ledger" / left.name).exists()
    assert "earlier training" not in caplog.text
