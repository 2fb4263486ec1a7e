"""Training stopped early: the weights of the step with the lowest NLL on the calibration split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cogcalib.training.schedule import Schedule
from cogcalib.training.trainer import CogCalibTrainer

NLL = "eval_nll"


class EarlyStoppedTrainer(CogCalibTrainer):
    """A `CogCalibTrainer` that evaluates on its calibration split, and ends with the best weights.

    Which are best is transformers' to say (``load_best_model_at_end``), given `settings`. The
    training is that of a `CogCalibTrainer`, step by step: where transformers' evaluation draws from
    the random numbers that the training goes on with, a calibration pass leaves them alone.
    """

    @staticmethod
    def settings(given: Mapping[str, Any], n_train: int, n_calibration: int) -> dict[str, Any]:
        """Arguments of a training without a gate, with those that keep its best weights.

        Measured as often as a gated training estimates its threshold after its first epoch, and at
        the end. A checkpoint is kept of the best step so far, which an interrupted training goes on
        from.

        Args:
            given: Fields of `CogCalibConfig`, with ``max_steps``, the batch and the schedule.
            n_train: Training examples.
            n_calibration: Calibration examples.
        """
        batches = math.ceil(n_train / given["per_device_train_batch_size"])
        every = given["threshold_every"] or Schedule.default_share(n_train, n_calibration)
        schedule = Schedule.resolve(
            given["style_steps"],
            every,
            max_steps=given["max_steps"],
            epoch_steps=math.ceil(batches / given["gradient_accumulation_steps"]),
        )
        return {
            **given,
            "eval_strategy": "steps",
            "eval_steps": schedule.every,
            "save_strategy": "best",
            "save_total_limit": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": NLL,
            "greater_is_better": False,
        }

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """The calibration split's NLL, nats: of the right option among the options, else per token.

        Args:
            *arguments: Not looked at, as all that `Trainer.evaluate` takes.
            **keywords: Not looked at.
        """
        metrics = {NLL: self.run_calibration_pass().nll}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as ever; the last row says which step's weights are kept, and their NLL."""
        if "train_runtime" in logs and self.state.best_global_step:
            logs["kept_step"] = self.state.best_global_step
            logs["kept_nll"] = float(self.state.best_metric or 0.0)
        super().log(logs, start_time)
