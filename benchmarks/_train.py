"""The trainers to compare, run so that they can take turns and nothing of a step is left out.

What takes part (a subject) is a trainer's own ``train()``, stopped after each step and resumed from
outside.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from threading import Thread
from typing import Any
from unittest import mock

import numpy as np
import torch
from _workload import BATCH, IGNORED, Workload, make_data, make_model, make_tokenizer
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor, nn
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from cogcalib import CogCalibConfig, CogCalibTrainer
from cogcalib.training.schedule import Schedule

# TRL 1.16 still uses the old name of an option that transformers 5.23 renamed.
warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of `mallopt(3)`; setting the second keeps it from growing with what has been freed."""
KEPT_AT_MOST = 1 << 17
NEVER = 10**9
"""Steps between two estimates of the threshold where the benchmark makes them itself."""


class BodyTrainer(SFTTrainer):
    """The floor: the body forward and backward, its states at the supervised positions, no head."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A loss that costs nothing and needs every block's gradient."""
        base = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        labels = inputs.pop("labels")
        states = base.base_model(**inputs, use_cache=False).last_hidden_state
        return states[:, :-1][labels[:, 1:] != IGNORED].square().mean()


OURS = ("cogcalib", "no-ledger")
SUBJECTS = ("cogcalib", "trl", "trl-compact", "body", "no-ledger")
AGAINST = {
    "trl": "SFTTrainer of TRL as it is; on CPU its head projects every position",
    "trl-compact": "SFTTrainer of TRL, its head made to project supervised positions only, as on "
    "CUDA",
    "body": "the body forward and backward and the optimiser's step, without any head",
    "no-ledger": "CogCalibTrainer without its ledger: what keeping it costs",
}


def make_trainer(
    subject: str,
    workload: Workload,
    folder: str,
    device: str,
    *,
    calibration: int = BATCH,
    penalty: str = "label_smoothing",
    evaluation: Dataset | None = None,
) -> SFTTrainer:
    """A trainer with TRL's defaults (gradient checkpointing among them), but in float32 on CPU.

    Args:
        subject: One of `SUBJECTS`.
        workload: What is trained.
        folder: For what the trainer writes.
        device: ``cpu`` or ``cuda``, there in bfloat16.
        calibration: Examples the threshold is estimated on.
        penalty: Of `CogCalibConfig`.
        evaluation: Examples to evaluate on.
    """
    arguments: dict[str, Any] = {
        "output_dir": folder,
        "use_cpu": device == "cpu",
        "bf16": device != "cpu",
        "dataloader_pin_memory": device != "cpu",
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-6,  # what the model knows must not change meanwhile
        "max_steps": NEVER + 1,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    common: dict[str, Any] = {
        "model": make_model(workload, device).to(
            torch.float32 if device == "cpu" else torch.bfloat16
        ),
        "train_dataset": make_data(workload, 16 * BATCH, seed=0),
        "eval_dataset": evaluation,
        "processing_class": make_tokenizer(),
        "peft_config": LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        if workload.adapters
        else None,
    }
    if subject in OURS:
        own = {"penalty": penalty, "style_steps": 0, "threshold_every": NEVER}
        own["ledger"] = subject != "no-ledger"
        trainer: SFTTrainer = CogCalibTrainer(
            args=CogCalibConfig(**arguments, **own),
            calibration_dataset=make_data(workload, calibration, seed=1),
            **common,
        )
    else:
        kind = BodyTrainer if subject == "body" else SFTTrainer
        trainer = kind(args=SFTConfig(**arguments), **common)
    trainer.remove_callback(PrinterCallback)
    return trainer


def compact_head() -> AbstractContextManager[Any]:
    """TRL's fused head projects only what is supervised.

    Of the functions in which TRL asks whether Triton runs, this name alone decides on that; the
    kernel asks another, in its own module, and stays what it is.
    """
    return mock.patch("trl.trainer.utils._use_triton", return_value=True)


class Stepper(TrainerCallback):
    """Runs ``trainer.train()`` in a thread of its own, one step for each call of `step`.

    A step goes from the end of one to the end of the next: batch, forward, backward, optimiser,
    the trainer's own bookkeeping and callbacks. Between two calls the thread stands still.
    """

    def __init__(self, trainer: SFTTrainer, subject: str) -> None:
        self.trainer = trainer
        self._within = compact_head if subject == "trl-compact" else nullcontext
        self._go: SimpleQueue[bool | Callable[[], object]] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = Thread(target=self._train, daemon=True)
        trainer.add_callback(self)
        self._thread.start()

    def step(self) -> None:
        """Train one step; what it raises, this raises."""
        with self._within():
            self._ask(True)

    def between_steps(self, work: Callable[[], object]) -> None:
        """Do `work` where a callback would: in the thread that trains, after its first step.

        In another one, what the allocator keeps of it would be of no use to the next step.
        """
        self._ask(work)

    def _ask(self, what: bool | Callable[[], object]) -> None:
        self._go.put(what)
        failure = self._done.get()
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """End the training where it stands."""
        self._go.put(False)
        self._thread.join()

    def _train(self) -> None:
        if self._go.get():
            try:
                self.trainer.train()
            except BaseException as failure:  # not lost: `step` raises it
                self._done.put(failure)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Say that the step is done and wait for the next to be wanted."""
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        self._done.put(None)
        while callable(wanted := self._go.get()):
            wanted()
            self._done.put(None)
        control.should_training_stop = not wanted


def estimate(trainer: CogCalibTrainer) -> None:
    """Estimate the threshold.

    Raises:
        RuntimeError: If the model knows all or nothing, and the gate would not be at work.
    """
    threshold = trainer.estimate_threshold()
    if not np.isfinite(threshold.value):
        raise RuntimeError(f"the gate is not at work, its threshold is {threshold.value}")


def interval(examples: int, calibration: int) -> int:
    """Steps between two estimates at the default `threshold_every`."""
    share = Schedule.default_share(examples, calibration)
    return max(1, round(share * -(-examples // BATCH)))


def prepare(
    subject: str, workload: Workload, device: str, penalty: str, steps: int
) -> tuple[Stepper, CogCalibTrainer | None]:
    """A subject after its first `steps` steps, in a process where its code has run before.

    What is resident only because code runs for the first time, or free but kept by the allocator,
    would be counted or hide what is counted: so something small is trained first, and memory that
    is freed goes back at once (glibc keeps up to 64 MB in each thread's arena, more than a step on
    short answers needs). The second value is the trainer where it has a threshold to estimate.
    """
    torch.set_num_threads(1)
    if device == "cpu":
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(parameter, KEPT_AT_MOST)
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for stage, count in ((workload.quick(), 2), (workload, steps)):
        trainer = make_trainer(subject, stage, folder, device, penalty=penalty)
        stepper = Stepper(trainer, subject)
        for _ in range(count):
            stepper.step()
        if stage is not workload:
            stepper.stop()
            del stepper, trainer
        gc.collect()
    if device == "cpu":
        ctypes.CDLL(None).malloc_trim(0)
    return stepper, trainer if isinstance(trainer, CogCalibTrainer) else None
