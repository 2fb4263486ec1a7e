"""One fine-tuning run from plain settings: what the pipeline calls where a user has a script."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftConfig
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cogcalib.knowledge.ledger import FOLDER
from cogcalib.modeling.encoding import to_dataset
from cogcalib.records import Example, is_verbatim
from cogcalib.training.answering import Origin
from cogcalib.training.checkpoints import last_complete_checkpoint
from cogcalib.training.collator import EXAMPLE_ID
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.logs import get_logger
from cogcalib.training.trainer import CogCalibTrainer

logger = get_logger(__name__)
LOG = "log.jsonl"


@dataclass(frozen=True)
class FitData:
    """The examples of a run.

    Attributes:
        train: To learn.
        calibration: That the training is steered by.
        known: Example id -> the base model's label, for the gate ``oracle``.
        choice: That methods are chosen by afterwards; the training never sees them, but nor may a
            guard of what was chosen.
    """

    train: Sequence[Example]
    calibration: Sequence[Example]
    known: Mapping[str, bool]
    choice: Sequence[Example] = ()


def fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: FitData,
    output: Path,
    settings: Mapping[str, Any],
    *,
    peft_config: PeftConfig | None = None,
    early: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Fine-tune `model` and put weights or adapter, thresholds and log into `output`.

    While it works the files stand in ``<output>.partial``; if checkpoints are kept there, an
    interrupted run goes on from the last that is complete. SIGTERM makes one after the step it
    came in, whether others are kept or not.

    Args:
        model: The base model; it is changed.
        tokenizer: Its tokenizer.
        data: Training and calibration examples.
        output: Folder that must not exist yet.
        settings: Fields of `CogCalibConfig`.
        peft_config: Adapter to train instead of every weight.
        early: Whether to keep the weights of the step with the lowest calibration NLL, and not the
            last.
        progress: Called with the number of optimiser steps done.

    Raises:
        FileExistsError: If `output` exists.
        ValueError: As `CogCalibConfig`, `CogCalibTrainer` and `to_dataset`.
        TerminatedError: If SIGTERM came before the last step.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists already")
    partial = output.with_name(f"{output.name}.partial")
    trainer_class = CogCalibTrainer
    if early:
        from cogcalib.training.early_stopping import EarlyStoppedTrainer

        trainer_class = EarlyStoppedTrainer
        settings = EarlyStoppedTrainer.settings(settings, len(data.train), len(data.calibration))
    arguments = CogCalibConfig(
        output_dir=str(partial),
        disable_tqdm=True,
        **{"report_to": "none", **settings},
    )
    use_one_device(arguments)
    set_seed(arguments.seed)  # the adapter's weights are drawn before the trainer seeds itself
    train = to_dataset(data.train, tokenizer, data.known, arguments.max_length)
    calibration = to_dataset(data.calibration, tokenizer, max_length=arguments.max_length)
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=train.add_column(EXAMPLE_ID, [example.id for example in data.train]),
        calibration_dataset=calibration,
        eval_dataset=calibration if early else None,
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=[_Progress(progress)] if progress else None,
    )
    choice = to_dataset(data.choice, tokenizer) if data.choice else None
    trainer.origin = _origin(data.train, output.name, choice)
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_complete_checkpoint(partial, arguments.gate)
    if checkpoint is None and (partial / FOLDER).is_dir():  # of a run killed before its first
        shutil.rmtree(partial / FOLDER)
    _train(trainer, checkpoint)
    trainer.save_model(str(partial))
    return _finish(partial, output, trainer.state.log_history)


def _train(trainer: CogCalibTrainer, checkpoint: str | None) -> None:
    """Train to the last step, or raise TerminatedError after a checkpoint."""
    from cogcalib.termination import TerminatedError, postponing_sigterm

    last = _LastStep()
    trainer.add_callback(last)
    with postponing_sigterm(last.ask):
        trainer.train(resume_from_checkpoint=checkpoint)
    if last.asked and trainer.state.global_step < trainer.state.max_steps:
        raise TerminatedError


def _finish(partial: Path, output: Path, log: Sequence[Mapping[str, Any]]) -> Path:
    """Write the log beside a trained model and give its folder the name of a finished one."""
    from cogcalib.jsonl import write_jsonl

    write_jsonl(partial / LOG, log)
    partial.rename(output)
    # Only now: killed before, the run could still go on from them.
    for leftover in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(leftover)
    return output


def _origin(examples: Sequence[Example], name: str, choice: Dataset | None) -> Origin:
    """The preset that worded all the questions, if one did, their tasks, and the model's name."""
    presets = {example.preset for example in examples}
    worded = len(presets) == 1 and not any(map(is_verbatim, presets))
    tasks = sorted({example.task for example in examples})
    return Origin(presets.pop() if worded else None, tuple(tasks), name, choice)


def use_one_device(arguments: TrainingArguments) -> None:
    """Train on the first GPU where several are visible, and say so.

    transformers would put the model into `nn.DataParallel` and multiply the batch by their number.
    """
    if arguments.n_gpu > 1:
        logger.warning(
            "%s GPUs are visible, and a run trains on one of them, %s; CUDA_VISIBLE_DEVICES "
            "chooses another.",
            arguments.n_gpu,
            arguments.device,
        )
        arguments._n_gpu = 1


class _Progress(TrainerCallback):
    """Tells the steps done; the pipeline shows them in its own bar."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell = tell

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self.tell(state.global_step)


class _LastStep(TrainerCallback):
    """Ends the training after the step in which it was asked to, with a checkpoint."""

    asked = False

    def ask(self) -> None:
        self.asked = True

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self.asked and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
