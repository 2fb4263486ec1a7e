"""The contestants of `loss.py`: linear layer and cross-entropy, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from _measure import Work
from _peers import CCE, LIGER
from torch import Tensor

from cogcalib.losses import Gate, LinearHead, Penalty, fused_cogcalib_loss

PENALTIES = {
    "label_smoothing": Penalty("label_smoothing"),
    "margin": Penalty("margin"),
    "entropy": Penalty("entropy"),
    "focal": Penalty("focal"),
}
USUAL = ("label_smoothing", "margin", "entropy")
"""Those compared if none is named."""
TERMS = PENALTIES | {f"{name}-options": Penalty(name, "options") for name in PENALTIES}
"""Besides, the same over four options of every token."""
LENGTHS = {"short": 3, "long": 512}
TRL, TORCH, TORCH_WIDE = "trl", "torch", "torch-128-rows"
COMPILED = "compiled"
AGAINST = {
    TRL: "TRL's fused head",
    TORCH: "torch linear_cross_entropy",
    TORCH_WIDE: "torch linear_cross_entropy, batch_chunk_size=128",
    LIGER: "Liger's fused linear cross-entropy, sums in float32",
    CCE: "Apple's cut cross-entropy, every gradient (filter_eps=None)",
}


def absent_from_torch() -> dict[str, str]:
    """Its own losses, and why they cannot take part, where it is too old for them."""
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        return {}
    return dict.fromkeys((TORCH, TORCH_WIDE), f"torch {torch.__version__} does not have it")


@dataclass(frozen=True, slots=True)
class Shape:
    """What is computed: sizes, dtype, device, and whether the head takes a gradient."""

    tokens: int
    hidden: int
    vocabulary: int
    dtype: str
    device: str
    frozen: bool

    @property
    def head(self) -> str:
        """For the name of a case."""
        return "frozen" if self.frozen else "trained"


def make_inputs(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states whose logits spread like a language model's, the head, random targets."""
    # Drawn where they are used: half a billion numbers take a processor ten seconds.
    generator = torch.Generator(shape.device).manual_seed(0)
    there = {"generator": generator, "device": shape.device}
    dtype = getattr(torch, shape.dtype)
    hidden = torch.randn(shape.tokens, shape.hidden, **there)
    weight = torch.randn(shape.vocabulary, shape.hidden, **there)
    weight.mul_(3 / shape.hidden**0.5)
    targets = torch.randint(shape.vocabulary, (shape.tokens,), **there)
    return (
        hidden.to(dtype).requires_grad_(),
        weight.to(dtype).requires_grad_(not shape.frozen),
        targets,
    )


def make_work(name: str, shape: Shape) -> Work:
    """Forward and backward of one contestant, on inputs of its own."""
    return partial(run, name, *make_inputs(shape))


def run(name: str, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of a contestant's loss; they are handed over, none is accumulated."""
    loss = loss_of(name, hidden, weight, targets)
    wanted = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    return torch.autograd.grad(loss, wanted)


def loss_of(name: str, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The mean loss as one of the contestants computes it."""
    if name == TRL:
        return _trl(hidden, weight, targets)
    if name in (TORCH, TORCH_WIDE):
        from torch.nn import LinearCrossEntropyOptions

        options = LinearCrossEntropyOptions()
        if name == TORCH_WIDE:
            options = LinearCrossEntropyOptions(batch_chunk_size=128, chunking_method=None)
        return F.linear_cross_entropy(hidden, weight, targets, options=options)
    if name == LIGER:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        # As everybody else here; by default Liger sums the weight's gradient in the weight's dtype.
        return LigerFusedLinearCrossEntropyLoss(accum_dtype=torch.float32)(weight, hidden, targets)
    if name == CCE:
        from cut_cross_entropy import linear_cross_entropy

        # By default it leaves out blocks whose gradients are all below eps / 32; nobody else does.
        return linear_cross_entropy(
            hidden,
            weight,
            targets,
            softcap=None,
            reduction="mean",
            shift=False,
            filter_eps=None,
            impl="cce",
        )
    return _ours(name, hidden, weight, targets)


def _trl(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, _ChunkedLogProbFunction

    outputs = ("log_probs", "entropy", "is_top1")
    chunk = _CHUNKED_LOGPROB_CHUNK_SIZE
    log_probs, *_ = _ChunkedLogProbFunction.apply(
        hidden, weight, None, targets, 1.0, chunk, None, 1.0, outputs
    )
    return -log_probs.sum() / len(targets)


def _ours(name: str, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    term, length, *how = name.split("/")
    example = torch.arange(len(targets), device=targets.device) // LENGTHS[length]
    penalty, options = TERMS[term], None
    if penalty.support == "options":
        options = (targets[:, None] + torch.arange(4, device=targets.device)) % len(weight)
    return fused_cogcalib_loss(
        hidden,
        LinearHead(weight),
        targets,
        example,
        int(example[-1]) + 1,
        penalty=penalty,
        alpha=0.1,
        gate=Gate("all"),
        option_ids=options,
        compiled=how == [COMPILED],
    ).loss
