"""The terms of the loss, one function each: the readable reference every fast path is judged by.

All functions take the logits of the supervised tokens, ``scores [N, V]``, and return one value per
token, ``[N]``, in nats. Half-precision logits are computed in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

PenaltyKind = Literal["label_smoothing", "margin", "entropy", "focal"]
Support = Literal["vocab", "options"]
MarginReduction = Literal["mean", "sum"]

NO_OPTION = -1
"""Fills the rows of ``option_ids`` that hold fewer options than the widest, or none."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """Which confidence penalty R is added to the cross-entropy of a known example.

    Attributes:
        kind: ``label_smoothing`` (CoLS), ``margin`` (CoMbLS), ``entropy`` (CoECP), or ``focal``,
            with which CE + R is the focal loss.
        support: The tokens whose logits are penalised: the whole vocabulary, or the answer options
            at the one token where they compete.
        margin: Logit gap m that ``margin`` tolerates.
        margin_reduction: How ``margin`` reduces over the support. ``mean`` is Liu et al.'s.
        entropy_floor: Entropy Gamma in nats above which ``entropy`` stops pushing; None: never.
        gamma: Exponent of ``focal``, at least 1.
    """

    kind: PenaltyKind
    support: Support = "vocab"
    margin: float = 10.0
    margin_reduction: MarginReduction = "mean"
    entropy_floor: float | None = None
    gamma: float = 3.0

    def __post_init__(self) -> None:
        check_choice("penalty", self.kind, get_args(PenaltyKind))
        check_choice("support", self.support, get_args(Support))
        check_choice("margin_reduction", self.margin_reduction, get_args(MarginReduction))
        if not 0 <= self.margin < float("inf"):
            raise ValueError(f"margin must be a finite number >= 0, got {self.margin}")
        if self.entropy_floor is not None and not 0 < self.entropy_floor < float("inf"):
            raise ValueError(
                f"entropy_floor must be None or a finite number > 0 (nats), "
                f"got {self.entropy_floor}"
            )
        if not 1 <= self.gamma < float("inf"):
            raise ValueError(f"gamma must be a finite number >= 1, got {self.gamma}")


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target, ``-log p_y``.

    Args:
        logits: ``[N, V]``.
        targets: Token ids, ``[N]``.
    """
    return F.cross_entropy(_accumulate(logits), targets, reduction="none")


def token_penalty(
    penalty: Penalty, logits: Tensor, targets: Tensor, option_ids: Tensor | None = None
) -> Tensor:
    """The penalty R of each token, ``[N]``, before gate and alpha.

    Args:
        penalty: Which R.
        logits: ``[N, V]``.
        targets: Token ids, ``[N]``.
        option_ids: ``[N, K]`` token ids of the options competing at this token, filled up with -1;
            a row of -1 has no options. Needed for ``support="options"``, unused otherwise.

    Returns:
        ``[N]``; with ``support="options"`` exactly 0 at tokens without options.

    Raises:
        ValueError: If ``support="options"`` comes without option ids.
    """
    scores = _accumulate(logits)
    if penalty.support == "vocab":
        gold = scores.gather(1, targets[:, None]).squeeze(1)
        return _penalty(penalty, scores, gold, None)
    if option_ids is None:
        raise ValueError("penalty.support='options' needs option_ids, got None")
    competing = (option_ids != NO_OPTION).any(dim=1)
    rows, ids, gold_ids = scores[competing], option_ids[competing], targets[competing]
    valid = ids != NO_OPTION
    gold = rows.gather(1, gold_ids[:, None]).squeeze(1)
    values = _penalty(penalty, rows.gather(1, ids.clamp(min=0)), gold, valid)
    return scores.new_zeros(len(scores)).masked_scatter(competing, values)


def label_smoothing(scores: Tensor, gold: Tensor, valid: Tensor | None = None) -> Tensor:
    """CoLS: ``R = mean_v(-log p_v) - CE = z_y - mean_v z_v`` over the support.

    The normaliser of the softmax cancels, so R is the same whether p runs over the vocabulary or
    over the options. ``CE + alpha R = (1 - alpha) CE + alpha mean_v(-log p_v)``: cross-entropy with
    a share alpha of the target spread evenly over the support (Szegedy et al., CVPR 2016).

    Args:
        scores: Logits of the support, ``[N, S]``.
        gold: Logit of the target, ``[N]``.
        valid: Which entries of `scores` belong to the support, ``[N, S]``; None: all.
    """
    return gold - _fill(scores, valid, 0).sum(1) / _size(scores, valid)


def margin(
    scores: Tensor,
    margin: float,
    reduction: MarginReduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """CoMbLS: ``R = sum_v relu(max_j z_j - z_v - m)`` over the support, or its mean.

    Margin-based label smoothing (Liu et al., CVPR 2022) leaves logit gaps up to m alone.

    Args:
        scores: Logits of the support, ``[N, S]``.
        margin: Tolerated gap m.
        reduction: ``mean`` over the support as in the original, or ``sum``.
        valid: Which entries of `scores` belong to the support, ``[N, S]``; None: all.
    """
    largest = _fill(scores, valid, -torch.inf).amax(1, keepdim=True)
    total = _fill(torch.relu(largest - scores - margin), valid, 0).sum(1)
    return total if reduction == "sum" else total / _size(scores, valid)


def entropy(scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """Entropy ``H(p) = -sum_v p_v log p_v`` in nats, p normalised over the support.

    Args:
        scores: Logits of the support, ``[N, S]``.
        valid: Which entries of `scores` belong to the support, ``[N, S]``; None: all.
    """
    log_p = _fill(scores, valid, -torch.inf).log_softmax(1)
    return -(log_p.exp() * _fill(log_p, valid, 0)).sum(1)


def entropy_penalty(
    scores: Tensor, floor: float | None = None, valid: Tensor | None = None
) -> Tensor:
    """CoECP: ``R = -H(p)``, or the hinge ``relu(Gamma - H(p))`` with a floor Gamma.

    It falls when the entropy rises (Pereyra et al., 2017).

    Args:
        scores: Logits of the support, ``[N, S]``.
        floor: Gamma in nats, or None.
        valid: Which entries of `scores` belong to the support, ``[N, S]``; None: all.
    """
    spread = entropy(scores, valid)
    return -spread if floor is None else torch.relu(floor - spread)


def focal(ce: Tensor, gamma: float) -> Tensor:
    """``R = ((1 - p)^gamma - 1) CE``, so that ``CE + R`` is the focal loss ``(1 - p)^gamma CE``.

    The more probable the target, the less it is pushed on (Lin et al., ICCV 2017; as a remedy for
    overconfidence Mukhoti et al., NeurIPS 2020). R, unlike the other penalties, is never positive.
    ``CE + alpha R`` lies between the two losses: ``(1 - alpha) CE + alpha (1 - p)^gamma CE``.

    Over the options p is the target's share among them: cross-entropy then takes the options from
    the rest of the vocabulary, and the focal loss the target from the other options.

    Args:
        ce: ``-log p`` of the target, nats, ``[N]``.
        gamma: At least 1.
    """
    return ((-torch.expm1(-ce)) ** gamma - 1) * ce


def focal_slope(ce: Tensor, gamma: float) -> Tensor:
    """``dR / dCE`` of `focal`, ``[N]``: ``(1 - p)^gamma - 1 + gamma (1 - p)^(gamma - 1) p CE``."""
    miss = -torch.expm1(-ce)
    return miss**gamma - 1 + gamma * miss ** (gamma - 1) * (1 - miss) * ce


def _penalty(penalty: Penalty, scores: Tensor, gold: Tensor, valid: Tensor | None) -> Tensor:
    if penalty.kind == "label_smoothing":
        return label_smoothing(scores, gold, valid)
    if penalty.kind == "margin":
        return margin(scores, penalty.margin, penalty.margin_reduction, valid)
    if penalty.kind == "focal":
        # A target that is one of the support has no more than all of it, rounding apart.
        ce = torch.relu(_fill(scores, valid, -torch.inf).logsumexp(1) - gold)
        return focal(ce, penalty.gamma)
    return entropy_penalty(scores, penalty.entropy_floor, valid)


def _fill(scores: Tensor, valid: Tensor | None, value: float) -> Tensor:
    return scores if valid is None else scores.masked_fill(~valid, value)


def _size(scores: Tensor, valid: Tensor | None) -> Tensor | int:
    return scores.shape[1] if valid is None else valid.sum(1)


def _accumulate(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def check_choice(name: str, got: object, allowed: Sequence[str]) -> None:
    """Check that an argument is one of some names.

    Args:
        name: Of the argument.
        got: What came.
        allowed: The names.

    Raises:
        ValueError: If it is none of them.
    """
    if got not in allowed:
        from cogcalib.suggest import did_you_mean

        meant = did_you_mean(got, allowed) if isinstance(got, str) else ""
        raise ValueError(f"{name} must be one of {list(allowed)}, got {got!r}{meant}")
