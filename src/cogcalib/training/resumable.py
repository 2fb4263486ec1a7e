"""The part of the trainer that writes checkpoints and goes on from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import nn
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from cogcalib.training.checkpoints import (
    SCALER,
    begin_checkpoint,
    checkpoint_to_resume,
    load_whole,
    refuse_missing,
)
from cogcalib.training.example_order import RecordedOrder
from cogcalib.training.ledger_writer import LedgerWriter
from cogcalib.training.preparation import PreparedTrainer
from cogcalib.training.run_identity import Identity, refuse_another_run, run_identity
from cogcalib.training.state import STATE_NAME, KnowledgeState


class ResumableTrainer(PreparedTrainer):
    """A `PreparedTrainer` that goes on from a whole checkpoint of the same run, or not at all.

    Attributes:
        knowledge: What is saved with each checkpoint.
        ledger: Written with each checkpoint, if one is kept.
        resumed_from: The checkpoint that the training went on from.
        identity: What the training is, compared with what the checkpoint was.
    """

    knowledge: KnowledgeState
    ledger: LedgerWriter | None
    resumed_from: str | None = None
    identity: Identity
    _order: RecordedOrder | None = None

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, or go on from a checkpoint with the thresholds it had; see `Trainer.train`.

        Raises:
            ValueError: If `resume_from_checkpoint` is True and no complete checkpoint is there, if
                the one given is incomplete, or was written by another run: with other data, seed or
                arguments.
        """
        gate = self.args.gate
        self.resumed_from = checkpoint_to_resume(
            resume_from_checkpoint, str(self.args.output_dir), gate
        )
        self.identity = run_identity(
            self.args,
            self.model,
            self.train_dataset,
            self.calibration_dataset,
            self.accelerator.num_processes,
        )
        if self.resumed_from is not None:
            self._check_checkpoint(self.resumed_from)
        return super().train(self.resumed_from, trial, ignore_keys_for_eval)

    def _check_checkpoint(self, checkpoint: str) -> None:
        """Raise ValueError unless it is a whole one of this run."""
        # Plain fine-tuning has no thresholds to restore, and goes on from anybody's checkpoint.
        if (Path(checkpoint) / STATE_NAME).is_file():
            state = KnowledgeState.load(checkpoint)
            refuse_another_run(checkpoint, state.method, self.identity)
        own = f"_{self.args.process_index}" if self.args.world_size > 1 else ""
        files = [f"rng_state{own}.pth"]
        if getattr(self.accelerator, "scaler", None) is not None:
            files.append(SCALER)
        refuse_missing(checkpoint, self.args.gate, files)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            self._order = RecordedOrder(sampler, self.accelerator.num_processes, self.resumed_from)
            return self._order
        return sampler

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._loading = str(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        self._loading = str(self.state.best_model_checkpoint)
        super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        load_whole(self.model, self._loading, load_result)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.args.should_save:  # first, so that no checkpoint is complete without it
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder = begin_checkpoint(Path(self._get_output_dir(trial=trial)) / name)
            self.knowledge.save(folder)
        if self.ledger is not None:
            self.ledger.flush(self.state.global_step)
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # At the end of an epoch the next one's order is drawn from the random numbers saved above.
        within = (self.state.epoch or 0) % 1 > 0
        if self._order is not None and within and self.args.should_save:
            self._order.save(output_dir)
        # The first rank writes trainer_state.json next: it must not say "complete" for the others.
        self.accelerator.wait_for_everyone()
