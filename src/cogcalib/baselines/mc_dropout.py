"""MC dropout: the mean of many passes with dropout left on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.baselines.base import Cost, check_choices
from cogcalib.inference.batching import by_length
from cogcalib.inference.logits import LogitReader, inference, max_positions, padding_id
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings, predict_from_logits
from cogcalib.scoring.config import DEFAULTS
from cogcalib.scoring.posthoc import check_calibration
from cogcalib.scoring.recalibrate import fit_letter_temperatures

T = TypeVar("T")


class MCDropout:
    """Average the probabilities of N passes with dropout on (Gal and Ghahramani, ICML 2016).

        p(v | x) = 1/N sum_n p(v | x, mask n)

    over the whole vocabulary at the answer position, from which every confidence definition is
    read as usual. Only dropout modules are in training mode, those of LoRA among them; dropout
    inside attention kernels, which is no module, stays off. Multiple choice only.

    The draws follow from `seed`, the examples and their batches: the same call gives the same
    result. Masks are drawn for each sequence of a batch by itself.

    Args:
        model: A causal language model, trained with the dropout it has.
        tokenizer: Its tokenizer.
        passes: N, at least 2.
        seed: Of the draws.

    Raises:
        ValueError: If no module drops anything, which would silently give the plain model, or
            `passes` is below 2.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        passes: int = 10,
        seed: int = 0,
    ) -> None:
        if passes < 2:
            raise ValueError(f"passes must be at least 2, got {passes}")
        if not _dropouts(model):
            raise ValueError(
                "the model has no dropout module with a probability above 0: MC dropout would be "
                "the plain model; train it with dropout, for LoRA lora_dropout > 0"
            )
        self.model, self.tokenizer = model, tokenizer
        self.passes, self.seed = passes, seed

    @property
    def cost(self) -> Cost:
        """N passes, and nothing else."""
        return Cost(passes=self.passes, extra_parameters=0, fit_seconds=0.0)

    def fit(self, train: Sequence[Example], settings: ScoreSettings = DEFAULTS) -> MCDropout:
        """Nothing to fit: training with dropout was it. Returns this object."""
        return self

    def predict(
        self, examples: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> list[Prediction]:
        """Predictions of the averaged probabilities, in the order given.

        Raises:
            ValueError: For an open-ended example, as `cogcalib.scoring.score`, or if the dropout
                changes nothing, as when the adapter is merged or switched off.
        """
        check_choices(examples, settings, "MC dropout")

        def work(batch: list[int], mean: Tensor) -> Sequence[Prediction]:
            asked = [examples[index] for index in batch]
            return predict_from_logits(mean, asked, self.tokenizer, settings)

        return self._averaged(examples, settings, work) if examples else []

    def fit_temperatures(
        self, calibration: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> Mapping[str, TemperatureScaling]:
        """As `Baseline.fit_temperatures`, of the same draws as `predict`."""
        check_calibration(calibration)
        check_choices(calibration, settings, "MC dropout")
        rows = self._averaged(calibration, settings, lambda _, mean: list(mean.cpu().numpy()))
        return fit_letter_temperatures(np.stack(rows), calibration, self.tokenizer)

    def _averaged(
        self,
        examples: Sequence[Example],
        settings: ScoreSettings,
        work: Callable[[list[int], Tensor], Sequence[T]],
    ) -> list[T]:
        """What `work` makes of the logs of the mean probabilities of each batch, [b, V]."""
        limit = max_positions(self.model)
        prompts = [row.prompt_ids for row in encode_choices(examples, self.tokenizer, limit)]
        with _dropping(self.model):
            # Shared, a prefix would be computed under one mask for all sequences and passes.
            reader = LogitReader(
                self.model, prompts, [1] * len(prompts), padding_id(self.tokenizer), share=False
            )
            return by_length(
                reader.lengths,
                lambda batch: work(batch, self._mean(reader, batch)),
                self.model.device,
                batch_size=settings.batch_size,
                progress=settings.progress,
            )

    def _mean(self, reader: LogitReader, batch: list[int]) -> Tensor:
        """Log of the mean probability, [b, V]."""
        total: Tensor | None = None
        for number in range(self.passes):
            torch.manual_seed(_seed(self.seed, number, batch[0]))
            log_p = reader.logits(batch).log_softmax(-1)
            if number == 1 and total is not None and torch.equal(log_p, total):
                raise ValueError(
                    "two passes with dropout are equal to the bit: the dropout of this model has "
                    "no effect (is its adapter merged or switched off?)"
                )
            total = log_p if total is None else torch.logaddexp(total, log_p)
        assert total is not None
        return total - math.log(self.passes)


@contextmanager
def _dropping(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode but for dropout; flags and random state are restored after."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), inference(model):
        for module in _dropouts(model):
            module.training = True
        yield


def _dropouts(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]


def _seed(seed: int, number: int, first: int) -> int:
    """A seed for each pass over each batch, so that no two share their masks."""
    return int(np.random.SeedSequence([seed, number, first]).generate_state(1)[0])
