"""Which examples are regularised: the method's gate and the controls it is compared with."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Gate = Literal["nll", "none", "all", "random", "inverted", "oracle", "soft"]
GATES: tuple[Gate, ...] = get_args(Gate)


def gate_weights(
    nll: Tensor,
    threshold: float,
    gate: Gate,
    *,
    known: Tensor | None = None,
    draws: Tensor | None = None,
    rate: float | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """How strongly each example is regularised.

    ======== ==========================================================
    nll      1 if NLL <= t: the method
    inverted 1 if NLL > t: only what the model does not know
    soft     sigmoid((t - NLL) / tau)
    oracle   1 if labelled known beforehand
    random   1 with probability `rate`, whatever the example: where the draw is below it
    all      1: uniform regularisation
    none     0: plain fine-tuning
    ======== ==========================================================

    Args:
        nll: Detached NLL of each example, nats, ``[B]``.
        threshold: t in nats; +inf: every example is known, -inf: none is.
        gate: Which gate.
        known: Fixed labels, ``[B]`` bool; needed for ``oracle``.
        draws: Uniform in [0, 1), ``[B]``; needed for ``random``. The caller draws them, apart from
            the training's own random numbers, so that a gate changes nothing but the gate.
        rate: Probability in [0, 1]; needed for ``random``.
        temperature: tau in nats, for ``soft``.

    Returns:
        Weights in [0, 1], ``[B]``, dtype and device of `nll`.

    Raises:
        ValueError: If the gate is unknown or lacks what it needs.
    """
    if gate == "nll":
        return (nll <= threshold).to(nll)
    if gate == "inverted":
        return (nll > threshold).to(nll)
    if gate == "soft":
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0 nats, got {temperature}")
        return torch.sigmoid((threshold - nll) / temperature)
    if gate == "oracle":
        if known is None:
            raise ValueError("gate 'oracle' needs known, the fixed label of each example")
        return known.to(nll)
    if gate == "random":
        if draws is None or rate is None or not 0 <= rate <= 1:
            raise ValueError(f"gate 'random' needs draws and a rate in [0, 1], got {rate}")
        return (draws < rate).to(nll)
    if gate == "all":
        return torch.ones_like(nll)
    if gate == "none":
        return torch.zeros_like(nll)
    raise ValueError(f"gate must be one of {list(GATES)}, got {gate!r}")
