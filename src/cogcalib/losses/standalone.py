"""The loss by itself: for transformers' `Trainer` and for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cogcalib.losses.gates import CLOSED, GATES, Gate, GateKind, never_chose
from cogcalib.losses.objective import NllReduction, cogcalib_loss, example_nll
from cogcalib.losses.statistics import known_examples, token_statistics
from cogcalib.losses.terms import NO_OPTION, Penalty, cross_entropy, token_penalty

IGNORED = -100
GATES_HERE: tuple[GateKind, ...] = tuple(
    gate for gate in GATES if gate not in ("oracle", "random", "prior")
)
"""Gates that need nothing but the NLLs; the others need labels or draws of their own."""


class CogCalibLoss:
    """``L_i = CE_i + alpha * 1[NLL_i <= t] * R_i`` over logits and labels, one example per row.

    It has the signature of transformers' ``compute_loss_func``. Without gradients, in an
    evaluation, the loss is plain cross-entropy. Until `threshold` is set the loss
    is plain cross-entropy: the style phase. Set it, and set it again every so often, to
    ``cogcalib.knowledge.estimate_threshold(*loss.judge(...)).value`` on a calibration split.
    `CogCalibTrainer` does all of that, and without ever holding the whole logits. Source: Wang et
    al., ACL 2025, arXiv 2505.20903.

    Args:
        penalty: Which R.
        alpha: Its weight, >= 0; at most 1 for label smoothing and focal.
        gate: One of `GATES_HERE`.
        option_ids: Token ids that compete at the first supervised token of every example, for
            ``support="options"``.
        nll_reduction: How an example's NLL reduces over its tokens.
        gate_temperature: Width in nats of the gate ``soft``.

    Attributes:
        threshold: t in nats; None during the style phase.
        nll: NLL of each example of the last batch, nats, detached, ``[B]``; None before the first.
        weights: Gate weight of each of them, ``[B]``.

    Raises:
        ValueError: If a value is out of range, or options are needed and missing.
    """

    def __init__(
        self,
        penalty: Penalty,
        alpha: float,
        *,
        gate: GateKind = "nll",
        option_ids: Sequence[int] | None = None,
        nll_reduction: NllReduction = "mean",
        gate_temperature: float = 0.1,
    ) -> None:
        largest = 1.0 if penalty.kind in ("label_smoothing", "focal") else float("inf")
        if not 0 <= alpha <= largest or alpha == float("inf"):
            raise ValueError(
                f"alpha must be a finite number from 0 to {largest} for {penalty.kind}, got {alpha}"
            )
        if gate not in GATES_HERE:
            raise ValueError(
                f"gate must be one of {list(GATES_HERE)}, got {gate!r}: CogCalibTrainer has the "
                "others"
            )
        if penalty.support == "options" and (option_ids is None or len(set(option_ids)) < 2):
            raise ValueError(
                f"penalty.support='options' needs two or more option_ids, got {option_ids}"
            )
        self.penalty, self.alpha, self.gate = penalty, alpha, gate
        self.option_ids = None if option_ids is None else list(option_ids)
        self.nll_reduction: NllReduction = nll_reduction
        self.gate_temperature = gate_temperature
        self.threshold: float | None = None
        self.nll: Tensor | None = None
        self.weights: Tensor | None = None
        self._seen: Tensor | None = None
        self._waited = False

    def __call__(
        self,
        outputs: Mapping[str, Any] | Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss, a scalar with graph.

        Args:
            outputs: A model's output with ``logits``, or the logits, ``[B, T, V]``.
            labels: ``[B, T]``, -100 where nothing is learnt; position *t* of the logits predicts
                the label of position *t + 1*.
            num_items_in_batch: Supervised tokens of the whole optimiser step; None: those here.

        Raises:
            ValueError: If shapes do not fit, or an answer's first token is none of `option_ids`.
        """
        logits, targets, example = _supervised(outputs, labels)
        parts = cogcalib_loss(
            cross_entropy(logits, targets),
            token_penalty(self.penalty, logits, targets, self._options(example, targets)),
            example,
            len(labels),
            alpha=self.alpha,
            gate=self._gate(),
            num_items_in_batch=num_items_in_batch,
            nll_reduction=self.nll_reduction,
        )
        self.nll, self.weights = parts.nll, parts.weights
        self._count(parts.nll, example)
        return parts.loss

    @torch.no_grad()
    def judge(
        self, outputs: Mapping[str, Any] | Tensor, labels: Tensor
    ) -> tuple[list[float], list[bool]]:
        """NLL of each example in nats, and whether the model answers it correctly by itself.

        Examples without a supervised token are left out.

        See `known_examples`; with options they compete at each example's first token.

        Args:
            outputs: As in the loss, of a model in evaluation mode.
            labels: As in the loss.

        Raises:
            ValueError: As the loss.
        """
        logits, targets, example = _supervised(outputs, labels)
        options, n = self._options(example, targets), len(labels)
        found = token_statistics(logits, targets, options)
        nll = example_nll(found.ce, example, n, self.nll_reduction)
        known = known_examples(found, targets, example, n, options)
        present = torch.bincount(example, minlength=n) > 0
        return nll[present].tolist(), known[present].tolist()

    def gate_warning(self) -> str:
        """What was wrong with the gate so far, to say at the end of a training; empty if nothing.

        Without a threshold nothing was regularised; over 99 % or under 1 % known examples, the
        gate never chose. Of all training batches of this object in this process; checkpoints do
        not hold it.
        """
        if self.gate in ("none", "all") or not (self._waited or self._seen is not None):
            return ""
        if self._seen is None:
            return (
                "CogCalibLoss never had a threshold in training: this was plain fine-tuning. Set "
                "threshold, see its documentation."
            )
        known, units = self._seen.tolist()
        return never_chose(self.gate, known, units)

    def _count(self, nll: Tensor, example: Tensor) -> None:
        """Count the batch's examples, and the known ones, if the gate was in force."""
        if self.gate == "none" or not torch.is_grad_enabled():
            return
        if self.threshold is None:
            self._waited = True
            return
        present = torch.bincount(example, minlength=len(nll)) > 0
        found = torch.stack([(present & (nll <= self.threshold)).sum(), present.sum()])
        self._seen = found if self._seen is None else self._seen.to(found.device) + found

    def _gate(self) -> Gate:
        evaluating = not torch.is_grad_enabled()  # so that losses compare across methods
        if evaluating or (self.threshold is None and self.gate != "all"):
            return CLOSED
        threshold = 0.0 if self.threshold is None else self.threshold
        return Gate(self.gate, threshold, self.gate_temperature)

    def _options(self, example: Tensor, targets: Tensor) -> Tensor | None:
        """The options at the first supervised token of each example, -1 elsewhere, ``[N, K]``."""
        if self.option_ids is None:
            return None
        ids, first = torch.tensor(self.option_ids, device=example.device), _first(example)
        strange = (first & ~torch.isin(targets, ids)).nonzero().flatten()
        if len(strange):
            row, token = int(example[strange[0]]), int(targets[strange[0]])
            raise ValueError(
                f"labels[{row}]: the first supervised token {token} is none of option_ids "
                f"{self.option_ids}"
            )
        return ids.expand(len(example), -1).masked_fill(~first[:, None], NO_OPTION)


def _supervised(
    outputs: Mapping[str, Any] | Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[N, V]``, targets and example of each supervised token."""
    logits = outputs if isinstance(outputs, Tensor) else outputs["logits"]
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            f"logits must be [B, T, V] and labels [B, T], got shapes {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    supervised = labels[:, 1:] != IGNORED
    return logits[:, :-1][supervised], labels[:, 1:][supervised], supervised.nonzero()[:, 0]


def _first(example: Tensor) -> Tensor:
    before = torch.cat([torch.full_like(example[:1], -1), example[:-1]])
    return example != before
