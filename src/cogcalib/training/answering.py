"""The trainer's part after the training: a model saved with its calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput

from cogcalib.losses import Penalty
from cogcalib.training.calibration_pass import CalibrationPass, run_calibration_pass
from cogcalib.training.checkpoints import ResumableTrainer
from cogcalib.training.loss import LossRunner
from cogcalib.training.measured_answers import MeasuredAnswers

if TYPE_CHECKING:
    from cogcalib.training.calibration_record import ModelRecords


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a training's questions come from, and what becomes of it.

    Attributes:
        preset: Prompt preset that worded them; None if prompts are taken as they are.
        tasks: Their names.
        name: Of the model trained whole; empty: that of the folder it is saved into.
    """

    preset: str | None = None
    tasks: tuple[str, ...] = ()
    name: str = ""


class AnsweringTrainer(ResumableTrainer):
    """A `ResumableTrainer` that measures its model's answers and saves it with what it found.

    Attributes:
        runner: Takes batches through the model.
        penalty: Of the training; its support is that of the calibration pass.
        base: Folder or hub id of the model that is trained; empty where it has none.
        origin: Where the questions come from, for the record.
    """

    runner: LossRunner
    penalty: Penalty
    base: str
    origin: Origin = Origin()
    _measured: tuple[int, MeasuredAnswers] | None = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; see `ResumableTrainer.train`."""
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        # All ranks are here; to `save_model` the first may come alone.
        if self.accelerator.num_processes > 1 and self.calibration_dataset is not None:
            self._measured = self.state.global_step, self.run_calibration_pass().answers
        return output

    def run_calibration_pass(self) -> CalibrationPass:
        """Measure the model, as it stands now, on the calibration split.

        Raises:
            ValueError: If the trainer has no calibration data set.
        """
        if self.calibration_dataset is None:
            raise ValueError("estimate_threshold needs a calibration_dataset, the trainer has none")
        return run_calibration_pass(
            self.model_wrapped,
            self.calibration_dataset,
            runner=self.runner,
            collate=self.padded_collator,
            prepare=self._prepare_inputs,
            accelerator=self.accelerator,
            batch_size=self.args.per_device_eval_batch_size,
            unit=self.args.unit_name,
            nll_reduction=self.args.nll_reduction_name,
            support=self.penalty.support,
            step=self.state.global_step,
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer.save_model` does, and beside it what its confidence is worth.

        ``calibration.json`` holds the metrics of the model as it is saved, on the calibration split
        (`cogcalib.deployment.calibration_file`), ``trained_on.txt`` hashes of the training
        questions, and ``base_model.json`` the fingerprint of an adapter's base. The checkpoints of
        a training have them, too, without metrics. On several processes the metrics are those at
        the end of the training: the main process may come here alone.
        """
        folder = Path(str(self.args.output_dir) if output_dir is None else output_dir)
        super().save_model(str(folder), _internal_call=True)
        checkpoint = _internal_call and self.is_in_train
        measured = None if checkpoint else self._measured_as_saved()
        if self.args.should_save:
            self._records.write(folder, measured, hashed=not checkpoint)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _measured_as_saved(self) -> MeasuredAnswers | None:
        """The answers of the model as it stands, without waiting for other processes."""
        if self.calibration_dataset is None:
            return None
        if self.accelerator.num_processes == 1:
            return self.run_calibration_pass().answers
        step, answers = self._measured or (None, None)
        return answers if step == self.state.global_step else None

    @cached_property
    def _records(self) -> ModelRecords:
        from cogcalib.training.calibration_record import ModelRecords

        return ModelRecords(
            self.args,
            self._tokenizer,
            base=self.base,
            adapter=self._has_adapter,
            train=cast(Dataset, self.train_dataset),
            calibration=self.calibration_dataset,
            split="calibration",
            origin=self.origin,
        )

    def _note_base(self) -> None:
        """Remember what is trained, before it is wrapped."""
        model: Any = self.model
        self._has_adapter = isinstance(model, PeftModel)
        inner: PreTrainedModel = model.get_base_model() if self._has_adapter else model
        self.base = str(inner.name_or_path)
