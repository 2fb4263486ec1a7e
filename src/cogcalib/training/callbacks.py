"""The callback that runs calibration passes during training and tells others of thresholds."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from cogcalib.records import Threshold, write_json
from cogcalib.training.calibration_pass import CalibrationPass
from cogcalib.training.config import GATES_WITHOUT_THRESHOLD, CogCalibConfig
from cogcalib.training.example_order import set_epoch
from cogcalib.training.ledger_writer import LedgerWriter
from cogcalib.training.logs import get_logger
from cogcalib.training.packing import count_examples
from cogcalib.training.run_identity import Identity
from cogcalib.training.schedule import ENOUGH_EARLY, Schedule
from cogcalib.training.state import KnowledgeState

if TYPE_CHECKING:
    from cogcalib.training.prior_labels import PriorLabels
    from cogcalib.training.recent_answers import RecentAnswers

logger = get_logger(__name__)
THRESHOLDS_NAME = "thresholds.json"
ALPHAS_NAME = "strengths.json"
STEPS = "steps"
"""Beside a run's identity in its checkpoints: how long it was to be, which may change."""
ENOUGH_PASSES = 4
"""After so many calibration passes the controller of alpha has arrived."""


class Learner(Protocol):
    """What of a trainer the callback reads, and `knowledge`, which it keeps up to date."""

    args: CogCalibConfig
    knowledge: KnowledgeState
    train_dataset: Dataset
    calibration_dataset: Dataset | None
    gate_generator: torch.Generator
    resumed_from: str | None
    identity: Identity
    callback_handler: CallbackHandler
    ledger: LedgerWriter | None
    prior: PriorLabels | None
    recent: RecentAnswers | None
    joined_answers: str

    def gather_knowledge(self) -> None:
        """Put into `knowledge` what each process has seen by itself."""
        ...

    def run_calibration_pass(self) -> CalibrationPass:
        """Measure the model, as it stands now, on the calibration split."""
        ...


class KnowledgeCallback(TrainerCallback):
    """Ends the style phase and re-estimates the threshold, always between two optimiser steps.

    Opens and closes the ledger, too.

    Other callbacks are told by an event of their own: those that define
    ``on_threshold(args, state, control, *, threshold)`` receive every threshold that comes into
    force, as a `cogcalib.records.Threshold`.
    """

    def __init__(self, trainer: Learner) -> None:
        self.trainer = trainer
        self.schedule: Schedule | None = None
        self.epoch_steps = 1
        self.few_estimates = ""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Resolve shares into steps; restore what a checkpoint knows."""
        trainer = self.trainer
        checkpoint = trainer.resumed_from
        gated = trainer.args.gate != "none"
        identity = {**trainer.identity, STEPS: state.max_steps}
        trainer.knowledge = KnowledgeState(method=identity)
        # Plain fine-tuning has nothing to restore.
        if checkpoint and gated:
            restored = KnowledgeState.load(checkpoint)
            _warn_of_another_length(restored.method.get(STEPS), state.max_steps)
            trainer.knowledge = replace(restored, method=identity)
        if trainer.prior is not None:
            trainer.prior.restore(trainer.knowledge.prior)
        if trainer.ledger is not None:
            trainer.ledger.begin(state.global_step, checkpoint)
        self.schedule = None
        if gated:
            batches = len(kwargs["train_dataloader"])
            self.epoch_steps = math.ceil(batches / args.gradient_accumulation_steps)
            self.schedule = Schedule.resolve(
                trainer.args.style_steps,
                self._threshold_every(),
                max_steps=state.max_steps,
                epoch_steps=self.epoch_steps,
                often=trainer.args.threshold_every is None,
            )
            self._warn_of_few_estimates(state.max_steps)
            self._warn_of_few_passes(state.max_steps)
            self._warn_of_late_labels()

    def _warn_of_few_passes(self, max_steps: int) -> None:
        schedule = self.schedule
        if schedule is None or self.trainer.args.alpha_controller is None:
            return
        passes = math.ceil((max_steps - schedule.style_steps) / schedule.every)
        if passes < ENOUGH_PASSES:
            logger.warning(
                "alpha='auto' has %s calibration passes to find its value, and wants %s: set "
                "threshold_every to at most %s steps, or train for longer.",
                passes,
                ENOUGH_PASSES,
                max(1, (max_steps - schedule.style_steps) // ENOUGH_PASSES),
            )

    def _warn_of_few_estimates(self, max_steps: int) -> None:
        """Say that the threshold may lag behind what is learnt, which takes the gate open."""
        schedule, trainer = self.schedule, self.trainer
        if schedule is None or trainer.args.gate in GATES_WITHOUT_THRESHOLD:
            return
        if (found := schedule.early_estimates(max_steps)) >= ENOUGH_EARLY:
            return
        steps = min(schedule.epoch, max_steps - schedule.style_steps)
        times = "once" if found == 1 else f"{found} times"
        remedy = (
            f"Set threshold_every to at most {steps // ENOUGH_EARLY} steps"
            if steps >= ENOUGH_EARLY
            else "Train for longer"
        )
        self.few_estimates = (
            f"The threshold is estimated {times} in the first {steps} steps after the style phase, "
            "and what is learnt between two estimates falls under the old one: it wants "
            f"{ENOUGH_EARLY}. {remedy}."
        )
        logger.warning(self.few_estimates)

    def count_known(
        self, step: int, max_steps: int, known: float, units: float, weight: float
    ) -> None:
        """Count units of a micro-batch for `KnownShare`, if they are judged.

        Args:
            step: Optimiser steps done.
            max_steps: Of the training.
            known: Known units of all processes.
            units: Units of all processes.
            weight: Sum of their weights of the penalty, alpha included.
        """
        knowledge = self.trainer.knowledge
        judged = knowledge.threshold is not None or self.trainer.args.gate == "oracle"
        if knowledge.style_end is not None and judged:
            in_first = step < knowledge.style_end + self.epoch_steps
            in_last = step >= max_steps - self.epoch_steps
            share = knowledge.known_share
            share.add(known, units, weight, in_first=in_first, in_last=in_last)

    def _warn_of_late_labels(self) -> None:
        if self.trainer.prior is None or self.schedule is None:
            return
        if self.schedule.style_steps >= self.epoch_steps:
            logger.warning(
                "gate='prior' labels each example when it is first met after the style phase of %s "
                "steps, and an epoch has %s: by then each has been trained on, and some of what it "
                "takes for prior knowledge is not. Set style_steps to less than an epoch.",
                self.schedule.style_steps,
                self.epoch_steps,
            )

    def _threshold_every(self) -> float | str:
        """Steps or a share of an epoch, the default resolved."""
        given, calibration = self.trainer.args.threshold_every, self.trainer.calibration_dataset
        if given is not None or calibration is None:
            return 1.0 if given is None else given
        return Schedule.default_share(count_examples(self.trainer.train_dataset), len(calibration))

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the samplers which epoch it is, also one that is entered in the middle."""
        set_epoch(kwargs["train_dataloader"], int(state.epoch or 0))
        # In the next one other processes meet the examples.
        self.trainer.gather_knowledge()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure when it is due; give the random gate this step's seed."""
        if self.schedule is None:
            return
        trainer, step = self.trainer, state.global_step
        # Derived from the step, not carried along: a resumed run draws what the first would have.
        seed = np.random.SeedSequence((args.seed, args.process_index, step)).generate_state(1)
        trainer.gate_generator.manual_seed(int(seed[0]))
        knowledge = trainer.knowledge
        if not self.schedule.is_due(step, knowledge.style_end):
            return
        found = None if trainer.calibration_dataset is None else trainer.run_calibration_pass()
        if knowledge.style_end is None:
            if found is not None and self.schedule.auto:
                knowledge.separations.append(found.threshold.separation)
            if not self.schedule.style_is_over(step, knowledge.separations):
                return
            knowledge.style_end = step
        if found is not None:
            if (controller := trainer.args.alpha_controller) is not None:
                before = knowledge.alpha_steps[-1] if knowledge.alpha_steps else None
                acted = before is None or knowledge.opened > 0
                answer = (found.confidence, found.accuracy)
                knowledge.alpha_steps.append(controller.next(before, step, *answer, acted=acted))
                knowledge.opened = 0.0
            if trainer.args.alpha == "gap":
                from cogcalib.training.gap_schedule import gap_curve

                trainer.gather_knowledge()
                gated = trainer.args.gate != "all"
                knowledge.curve = gap_curve(found.own, knowledge.recent, gated=gated)
            self._put_in_force(found.threshold, args, state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write ``thresholds.json`` and, if a controller set alpha, ``strengths.json``."""
        if self.trainer.ledger is not None:
            self.trainer.ledger.flush(state.global_step)
        if not args.should_save:
            return
        output, knowledge = Path(str(args.output_dir)), self.trainer.knowledge
        if warning := self._warning_at_end():
            logger.warning(warning)
        write_json(output / THRESHOLDS_NAME, [asdict(row) for row in knowledge.history])
        if knowledge.alpha_steps:
            write_json(output / ALPHAS_NAME, [asdict(row) for row in knowledge.alpha_steps])

    def _warning_at_end(self) -> str:
        """What was wrong with the gate, or else with the weight behind it; empty if nothing.

        With what was said of the answers before the training, above all its progress.
        """
        from cogcalib.training.no_effect import warning_of_no_effect

        args, recent = self.trainer.args, self.trainer.recent
        found = self.trainer.knowledge.known_share.warning(args.gate) or warning_of_no_effect(
            self.trainer.knowledge, args.gate, args.alpha, 0 if recent is None else recent.size
        )
        likely = self.few_estimates if found else ""
        return " ".join(filter(None, (found, likely, self.trainer.joined_answers)))

    def _put_in_force(
        self,
        threshold: Threshold,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
    ) -> None:
        history = self.trainer.knowledge.history
        _warn_of_infinity(history[-1].value if history else None, threshold)
        if not history:  # the gate `random` opens at a rate before any batch has been judged
            share = threshold.n_known / (threshold.n_known + threshold.n_unknown)
            self.trainer.knowledge.update_rate(share)
        history.append(threshold)
        for callback in self.trainer.callback_handler.callbacks:
            told = getattr(callback, "on_threshold", None)
            if told is not None:
                told(args, state, control, threshold=threshold)


def _warn_of_another_length(before: int | None, now: int) -> None:
    """Say that the schedules of learning rate and thresholds are not those of a run in one go."""
    if before not in (None, now):
        logger.warning(
            "The checkpoint belongs to a training of %s steps, which goes on to %s: learning rate, "
            "style phase and thresholds are not what a training of %s steps would have had.",
            before,
            now,
            now,
        )


def _warn_of_infinity(before: float | None, threshold: Threshold) -> None:
    """Say when the threshold becomes infinite, changes its sign there, or is finite again."""
    value = threshold.value
    if math.isinf(value) and value != before:
        if threshold.n_unknown == 0:
            reason = "the model knows every calibration example"
        elif threshold.n_known == 0:
            reason = "the model knows no calibration example"
        else:
            reason = "the NLL does not separate known from unknown calibration examples"
        logger.warning(
            "The threshold at step %s is %s: %s. It is used as it is until it changes.",
            threshold.step,
            value,
            reason,
        )
    elif before is not None and math.isinf(before) and math.isfinite(value):
        logger.warning(
            "The threshold at step %s is %.4g: finite again after %s.",
            threshold.step,
            value,
            before,
        )
