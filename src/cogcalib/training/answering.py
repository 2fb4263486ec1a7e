"""The trainer's part after the training: a model saved with its calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from cogcalib.losses import FusedParts, Penalty
from cogcalib.training.calibration_pass import CalibrationPass, run_calibration_pass
from cogcalib.training.checkpoints import ResumableTrainer
from cogcalib.training.loss import LossRunner
from cogcalib.training.measured_answers import EvaluatedUnits, MeasuredAnswers, judge
from cogcalib.training.supervision import SupervisedTokens

if TYPE_CHECKING:
    from cogcalib.deployment.answer import Answer
    from cogcalib.training.calibration_record import ModelRecords


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a training's questions come from, and what becomes of it.

    Attributes:
        preset: Prompt preset that worded them; None if prompts are taken as they are.
        tasks: Their names.
        name: Of the model trained whole; empty: that of the folder it is saved into.
        choice: Prepared examples that it is chosen by, if it will be.
    """

    preset: str | None = None
    tasks: tuple[str, ...] = ()
    name: str = ""
    choice: Dataset | None = None


class AnsweringTrainer(ResumableTrainer):
    """A `ResumableTrainer` that measures its model's answers and saves it with what it found.

    Attributes:
        runner: Takes batches through the model.
        penalty: Of the training; its support is that of the calibration pass.
        split_off: Whether the calibration split was split off the training set.
        base: Folder or hub id of the model that is trained; empty where it has none.
        origin: Where the questions come from, for the record.
    """

    runner: LossRunner
    penalty: Penalty
    split_off: bool = False
    base: str
    origin: Origin = Origin()
    _measured: tuple[int, MeasuredAnswers | None] = (-1, None)
    _evaluated: EvaluatedUnits | None = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; see `ResumableTrainer.train`.

        Raises:
            ValueError: As there, or if the output folder holds a whole model and an adapter is
                trained, or the other way round.
        """
        from cogcalib.training.output_folder import refuse_other_kind, warn_of_replacing

        folder, keeps = Path(str(self.args.output_dir)), self.args.save_strategy != "no"
        refuse_other_kind(folder, adapter=self._has_adapter, checkpoints=keeps)
        if not resume_from_checkpoint:
            warn_of_replacing(folder, ledger=self.ledger is not None)
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        # All ranks are here; to `save_model` the first may come alone.
        if self.accelerator.num_processes > 1 and self.calibration_dataset is not None:
            self._measured = self.state.global_step, self.run_calibration_pass().answers
            # After a forward pass without a backward one FSDP holds the outermost weights whole.
            for module in self.model_wrapped.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()
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

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate as `Trainer.evaluation_loop`, and with ``eval_calibration`` judge the answers.

        The logits are those that the loss is made of. Metrics of the same name that a
        ``compute_metrics`` gives stand.
        """
        self._evaluated = EvaluatedUnits() if self.args.eval_calibration else None
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
            answers = None if self._evaluated is None else self._evaluated.answers()
        finally:
            self._evaluated = None
        if answers is not None and output.metrics is not None:
            for name, value in answers.metrics().items():
                output.metrics.setdefault(f"{metric_key_prefix}_{name}", value)
        return output

    def predict_with_confidence(self, dataset: Iterable[Any]) -> list[Answer]:
        """Answers of the model as it stands, each with its confidence, in the order of the rows.

        Args:
            dataset: A data set or rows in a format of the trainer's, whose answers are not looked
                at: ``prompt`` and perhaps ``options``, ``messages``, or ``input_ids`` with
                ``labels``; also what `Predictor.predict` takes. Rows without options are answered
                by generated text, or by the options that all training examples share.

        Raises:
            RefusedInput: Naming the index of the first row that cannot be asked.
            ValueError: If the weights are sharded over processes.
        """
        from cogcalib.deployment.calibrated import calibrate
        from cogcalib.deployment.raw_answers import ask
        from cogcalib.inference.transformers_backend import TransformersBackend
        from cogcalib.training.row_questions import rows_to_questions

        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "predict_with_confidence needs a model that one process holds whole; save it, and "
                "ask it by cogcalib.load"
            )
        calibration = self._records.calibration()
        questions = rows_to_questions(dataset, self._tokenizer, calibration.answers)
        model = self.accelerator.unwrap_model(self.model)
        backend = TransformersBackend(model, self._tokenizer)
        return calibrate(ask(backend, questions, calibration.answers), calibration)

    def _judge(self, parts: FusedParts, tokens: SupervisedTokens, numbers: Tensor | None) -> None:
        """Keep what a batch under evaluation says of its answers."""
        if self._evaluated is not None and numbers is not None and not self.model.training:
            units = tokens.units.to(parts.token_ce.device)
            self._evaluated.add(judge(parts, tokens), numbers.to(parts.token_ce.device), units)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer.save_model` does, and beside it what its confidence is worth.

        ``calibration.json`` holds the metrics of the model as it is saved, on the calibration split
        (`cogcalib.deployment.calibration_file`), ``trained_on.txt`` and
        ``calibrated_on.txt`` hashes of the questions of the training and calibration splits, and
        ``base_model.json`` the fingerprint of an adapter's base. The checkpoints of
        a training have them, too, without metrics. On several processes the metrics are those at
        the end of the training: the main process may come here alone.

        Raises:
            ValueError: If the folder holds a whole model and this is an adapter, or the other way
                round, before anything is written.
        """
        folder = Path(str(self.args.output_dir) if output_dir is None else output_dir)
        checkpoint = _internal_call and self.is_in_train
        if not checkpoint:  # whose folders were looked at before the training
            from cogcalib.training.output_folder import refuse_other_kind

            refuse_other_kind(folder, adapter=self._has_adapter)
        if self.args.should_save and not checkpoint:
            from cogcalib.deployment.card import withdraw_card

            withdraw_card(folder)
        readme = folder / "README.md"
        before = readme.read_bytes() if readme.is_file() else None
        super().save_model(str(folder), _internal_call=True)
        measured = None if checkpoint else self._measured_as_saved()
        if self.args.should_save:
            self._records.write(folder, measured)
            # PEFT writes a card of its own, or into the one that is there.
            if before is None:
                readme.unlink(missing_ok=True)
            elif readme.read_bytes() != before:
                readme.write_bytes(before)
            if not checkpoint:
                self._write_card(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def create_model_card(  # type: ignore[override]  # as TRL has it
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        """Write the model card of what was saved last, in the place of TRL's.

        Args:
            model_name: Not used: the card has the model's name on the hub, or its base's.
            dataset_name: Hub id of the data trained on.
            tags: More tags.
        """
        folder = Path(str(self.args.output_dir))
        if (
            self.args.should_save
            and not self.is_in_train
            and (folder / "calibration.json").exists()
        ):
            more = [tags] if isinstance(tags, str) else tags or []
            self._write_card(folder, tags=more, datasets=[dataset_name] if dataset_name else [])

    def _write_card(
        self, folder: Path, *, tags: Sequence[str] = (), datasets: Sequence[str] = ()
    ) -> None:
        from cogcalib.deployment.card import write_card

        name = getattr(self, "hub_model_id", None)
        repository = name if name and "/" in name else None
        write_card(folder, repository=repository, tags=tags, datasets=datasets)

    def _measured_as_saved(self) -> MeasuredAnswers | None:
        """The answers of the model as it stands, without waiting for other processes."""
        if self.calibration_dataset is None:
            return None
        if self.accelerator.num_processes == 1:
            return self.run_calibration_pass().answers
        step, answers = self._measured
        return answers if step == self.state.global_step else None

    @cached_property
    def _records(self) -> ModelRecords:
        from cogcalib.training.calibration_record import ModelRecords

        return ModelRecords(
            self.args,
            self._tokenizer,
            base=self.base,
            revision=self._revision,
            adapter=self._has_adapter,
            train=cast(Dataset, self.train_dataset),
            calibration=self.calibration_dataset,
            choice=self.origin.choice,
            split_off=self.split_off,
            options=self._option_texts,
            preset=self.origin.preset,
            tasks=self.origin.tasks,
            name=self.origin.name,
            precision=numeric_format(self.model, self.args),
        )

    def _note_base(self) -> None:
        """Remember what is trained, before it is wrapped."""
        model: Any = self.model
        self._has_adapter = isinstance(model, PeftModel)
        inner: PreTrainedModel = model.get_base_model() if self._has_adapter else model
        self.base = str(inner.name_or_path)
        self._revision = model.active_peft_config.revision if self._has_adapter else None


def numeric_format(model: Any, args: TrainingArguments) -> str:
    """The number format that a model is trained and measured in."""
    computed = "bfloat16" if args.bf16 else "float16" if args.fp16 else ""
    computed = computed or str(model.dtype).removeprefix("torch.")
    bits = next((n for n in (4, 8) if getattr(model, f"is_loaded_in_{n}bit", False)), None)
    return f"{bits}-bit {computed}" if bits else computed
