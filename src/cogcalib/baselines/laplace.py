"""Laplace-LoRA: a Gaussian over the adapter's weights instead of one value, after training."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.baselines.base import Cost, check_choices
from cogcalib.baselines.option_logits import (
    Batches,
    OptionLogits,
    Question,
    adapter_weights,
    encode_questions,
    only_trainable,
    option_jacobian,
)
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings, fit_option_scaling
from cogcalib.scoring.config import DEFAULTS
from cogcalib.scoring.multiple_choice import choose
from cogcalib.scoring.posthoc import check_calibration

Layers = Literal["all", "last"]
Link = Literal["mc", "probit"]


class LaplaceLoRA:
    """A Laplace approximation over LoRA weights (Yang et al., ICLR 2024, arXiv 2308.13111).

    The model is a classifier over the option letters' logits f at the answer position. Around its
    weights w, with a prior N(0, I / lambda), the posterior is N(w, (G + lambda I)^-1), G the
    generalised Gauss-Newton matrix over the training questions, block by block approximated by a
    Kronecker product (KFAC, expand). lambda maximises the marginal likelihood of the training
    questions, which is concave in log lambda. The predictive distribution is that of the linearised
    model:

        p(k | x) = E softmax(f')_k,   f' ~ N(f, J (G + lambda I)^-1 J^T),   J = df / dw

    by sampling (``mc``, as in the paper), or by the probit approximation, the softmax of
    c_k / sqrt(1 + pi/8 U_kk), c and U being f and its covariance centred over the options, which
    ignores what of the logits' errors goes together beyond their mean.

    It gives probabilities of the options and nothing else: predictions carry the confidence
    ``options`` only. Computed by laplace-torch with curvlinops (``pip install cogcalib[laplace]``).
    Training questions are batched with others of their length, because padding would enter the
    Kronecker factors.

    Args:
        model: A causal language model with a LoRA adapter, trained, not merged.
        tokenizer: Its tokenizer.
        layers: ``all`` adapter weights, or those of the ``last`` adapted layer: of the output layer
            if it has an adapter, else of the last decoder layer.
        link: ``mc`` or ``probit``.
        samples: Draws per question for ``mc``.
        seed: Of the draws.

    Attributes:
        prior_precision_: lambda.
        laplace_: The object of laplace-torch.

    Raises:
        ValueError: If laplace-torch is not installed, the model has no LoRA adapter, an adapter is
            on something else than a linear layer, or an argument is out of range.
    """

    prior_precision_: float
    laplace_: Any

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layers: Layers = "all",
        link: Link = "mc",
        samples: int = 10_000,
        seed: int = 0,
    ) -> None:
        if layers not in ("all", "last"):
            raise ValueError(f"layers must be all or last, got {layers!r}")
        if link not in ("mc", "probit"):
            raise ValueError(f"link must be mc or probit, got {link!r}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        _laplace_torch()
        self.model, self.tokenizer, self.layers = model, tokenizer, layers
        self.link, self.samples, self.seed = link, samples, seed
        self._weights = adapter_weights(model, last=layers == "last")
        self._seconds = 0.0

    @property
    def cost(self) -> Cost:
        """One pass forward and, for the Jacobian, one back per option; the Kronecker factors.

        Raises:
            RuntimeError: If unfitted.
        """
        factors = self._fitted().H_facs.kfacs
        numbers = sum(factor.numel() for block in factors for factor in block)
        return Cost(1 + self._options, numbers, self._seconds)

    def fit(self, train: Sequence[Example], settings: ScoreSettings = DEFAULTS) -> LaplaceLoRA:
        """Fit curvature and prior precision.

        Args:
            train: The multiple-choice questions that the adapter was trained on, at least one.
            settings: Batch size (8 if None) and progress.

        Returns:
            This object.

        Raises:
            ValueError: If there is no example, one is open-ended or of split ``test``, or as
                `cogcalib.scoring.score`.
        """
        check_choices(train, settings, "Laplace-LoRA")
        if not train:
            raise ValueError("train is empty: there is no curvature to compute")
        if leaked := [example.id for example in train if example.split == "test"]:
            raise ValueError(f"train must hold no test examples, got {leaked[0]!r}")
        start = time.perf_counter()
        questions = encode_questions(train, self.tokenizer, self.model)
        self._options = max(len(question.option_ids) for question in questions)
        batches = Batches(questions, settings, self.model.device, self._options)
        with only_trainable(self.model, self._weights):
            found = _laplace_torch().Laplace(
                OptionLogits(self.model),
                "classification",
                subset_of_weights="all",
                hessian_structure="kron",
                # Else it takes the format of the frozen weights, which may be half.
                prior_precision=torch.ones(1, device=self.model.device),
            )
            found.fit(batches)
        self.laplace_ = found
        self.prior_precision_ = _best_prior_precision(found)
        found.prior_precision = torch.tensor([self.prior_precision_], device=self.model.device)
        self._seconds = time.perf_counter() - start
        return self

    def predict(
        self, examples: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> list[Prediction]:
        """Predictions of the linearised model, in the order given.

        Raises:
            RuntimeError: If unfitted.
            ValueError: For an open-ended example, one with more options than any fitted on, a
                temperature of another definition than ``options``, or as `cogcalib.scoring.score`.
        """
        laplace = self._fitted()
        check_choices(examples, settings, "Laplace-LoRA")
        temperature = settings.temperatures(("options",))["options"]
        if not examples:
            return []
        questions = encode_questions(examples, self.tokenizer, self.model)
        for example, question in zip(examples, questions, strict=True):
            if len(question.option_ids) > self._options:
                raise ValueError(
                    f"example {example.id!r} has {len(question.option_ids)} options, the most "
                    f"fitted on are {self._options}"
                )
        batches = Batches(questions, settings, self.model.device, self._options)
        generator = torch.Generator().manual_seed(self.seed)
        rows: dict[int, list[float]] = {}
        classifier = OptionLogits(self.model)
        with only_trainable(self.model, self._weights):
            for indices, batch in batches.with_indices():
                # laplace-torch's own Jacobian goes back through the batch once per logit in it.
                mean, jacobian = option_jacobian(classifier, batch, self._weights)
                variance = laplace.functional_variance(jacobian)
                shares = self._shares(mean, variance, questions, indices, generator)
                shares = (shares / temperature).log_softmax(-1)
                rows.update(zip(indices, shares.tolist(), strict=True))
        shares_in_order = [rows[index] for index in range(len(examples))]
        confidence = [{"options": min(1.0, float(np.exp(max(row))))} for row in shares_in_order]
        return choose(examples, settings, shares_in_order, shares_in_order, confidence)

    def fit_temperatures(
        self, calibration: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> Mapping[str, TemperatureScaling]:
        """As `Baseline.fit_temperatures`: that of ``options``, the one definition there is."""
        check_calibration(calibration)
        found = self.predict(calibration, settings)
        return {"options": fit_option_scaling(TemperatureScaling(), found, calibration)}

    def _shares(
        self,
        mean: Tensor,
        variance: Tensor,
        questions: Sequence[Question],
        indices: Sequence[int],
        generator: torch.Generator,
    ) -> Tensor:
        """Log of each option's probability, [b, K]; -inf where there is no option."""
        mean, variance = mean.double().cpu(), variance.double().cpu()
        sizes = torch.tensor([len(questions[index].option_ids) for index in indices])
        absent = torch.arange(mean.shape[1]) >= sizes[:, None]
        if self.link == "probit":
            return probit_shares(mean, variance, ~absent)
        mean = mean.masked_fill(absent, -torch.inf)
        return linearised_shares(mean, variance, self.samples, generator)

    def _fitted(self) -> Any:
        if not hasattr(self, "laplace_"):
            raise RuntimeError("LaplaceLoRA is not fitted: call fit first")
        return self.laplace_


def probit_shares(mean: Tensor, variance: Tensor, present: Tensor) -> Tensor:
    """Log of the softmax of ``c_k / sqrt(1 + pi/8 U_kk)``, [b, K]; c, U centred over the options.

    Only differences between logits mean anything: what all options have in common, in value or in
    error, is taken out before each is scaled by itself.

    Args:
        mean: Logits, [b, K].
        variance: Their covariance, [b, K, K].
        present: Which options there are, [b, K]; the others get -inf.
    """
    share = present.to(mean) / present.sum(1, keepdim=True)
    centre = torch.diag_embed(present.to(mean)) - present[:, :, None] * share[:, None, :]
    spread = (centre @ variance @ centre.mT).diagonal(dim1=1, dim2=2)
    logits = (centre @ mean[:, :, None])[:, :, 0] / (1 + torch.pi / 8 * spread).sqrt()
    return logits.masked_fill(~present, -torch.inf).log_softmax(-1)


def linearised_shares(
    mean: Tensor, variance: Tensor, samples: int, generator: torch.Generator
) -> Tensor:
    """``log E softmax(f)``, f ~ N(mean, variance), over the same draws for every row, [b, K].

    Args:
        mean: Logits, [b, K]; -inf where there is no option.
        variance: Their covariance, [b, K, K].
        samples: Number of draws.
        generator: Where they come from.
    """
    values, vectors = torch.linalg.eigh((variance + variance.mT) / 2)
    root = vectors * values.clamp(min=0).sqrt()[:, None, :]
    noise = torch.randn(samples, mean.shape[1], generator=generator, dtype=mean.dtype)
    rows = [
        (row + noise @ half.T).log_softmax(-1).logsumexp(0) - np.log(samples)
        for row, half in zip(mean, root, strict=True)
    ]
    return torch.stack(rows)


def _best_prior_precision(laplace: Any) -> float:
    """The prior precision of the largest marginal likelihood.

    Its slope in log lambda is half of ``sum_i h_i / (h_i + lambda) - lambda |w|^2``, h the
    eigenvalues of the curvature: it falls, and is zero for one lambda of at most n / |w|^2.
    """
    top = np.log(laplace.n_params / float(laplace.mean.square().sum()))

    def loss(log_precision: float) -> float:
        precision = torch.tensor([np.exp(log_precision)], device=laplace.mean.device)
        with torch.no_grad():
            return -float(laplace.log_marginal_likelihood(prior_precision=precision))

    found = minimize_scalar(loss, bounds=(top - 30, top), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _laplace_torch() -> ModuleType:
    """The library, which the extra installs.

    Raises:
        ValueError: If it is missing.
    """
    try:
        with warnings.catch_warnings():
            # One of the backends it imports, none of ours, scripts a function on import.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            import laplace
    except ModuleNotFoundError as error:
        raise ValueError(
            f'Laplace-LoRA needs laplace-torch: pip install "cogcalib[laplace]" ({error})'
        ) from error
    return laplace
