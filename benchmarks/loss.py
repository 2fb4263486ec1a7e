"""The fused loss against TRL's fused head and torch's linear cross-entropy, forward and backward.

Theirs compute cross-entropy only, TRL's with entropy and accuracy beside it; ours adds the penalty
for every example and has both statistics, too. On a CPU, 4096
tokens with a vocabulary of 128,256 and width 512 take minutes per turn:

    python benchmarks/loss.py --json loss.json
    python benchmarks/loss.py --tokens 512 --repeats 5              # quick, and less exact
    python benchmarks/loss.py --device cuda --dtype bfloat16 --tokens 16384 --hidden 4096
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from cogcalib.losses import LinearHead, Penalty, fused_cogcalib_loss

PENALTIES = {
    "label_smoothing": Penalty("label_smoothing"),
    "margin": Penalty("margin"),
    "entropy": Penalty("entropy"),
}
LENGTHS = {"short": 3, "long": 512}
TRL, TORCH, TORCH_WIDE = "trl", "torch", "torch-128-rows"
AGAINST = {
    TRL: "TRL's fused head",
    TORCH: "torch linear_cross_entropy",
    TORCH_WIDE: "torch linear_cross_entropy, batch_chunk_size=128",
}
TIME_LIMITS = {TRL: dict.fromkeys(PENALTIES, 0.40), TORCH: dict.fromkeys(PENALTIES, 1.25)}
TIME_LIMITS[TORCH]["label_smoothing"] = 1.10
MEMORY_LIMITS = {"trained": 0.12, "frozen": 0.20}


@dataclass(frozen=True, slots=True)
class Shape:
    """What is computed: sizes, dtype, device, and whether the head takes a gradient."""

    tokens: int
    hidden: int
    vocabulary: int
    dtype: str
    device: str
    frozen: bool


def make_inputs(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states whose logits spread like a language model's, the head, random targets."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, shape.dtype)
    hidden = torch.randn(shape.tokens, shape.hidden, generator=generator)
    weight = torch.randn(shape.vocabulary, shape.hidden, generator=generator)
    weight.mul_(3 / shape.hidden**0.5)
    targets = torch.randint(shape.vocabulary, (shape.tokens,), generator=generator)
    return (
        hidden.to(shape.device, dtype).requires_grad_(),
        weight.to(shape.device, dtype).requires_grad_(not shape.frozen),
        targets.to(shape.device),
    )


def make_work(name: str, shape: Shape) -> Work:
    """Forward and backward of one contestant, on inputs of its own."""
    return partial(run, name, *make_inputs(shape))


def run(name: str, hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor | None, ...]:
    """Loss and gradients of a contestant; the gradients are handed over, none is accumulated."""
    loss = loss_of(name, hidden, weight, targets)
    wanted = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    return torch.autograd.grad(loss, wanted)


def loss_of(name: str, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The mean loss as one of the contestants computes it."""
    if name == TRL:
        from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, _ChunkedLogProbFunction

        outputs = ("log_probs", "entropy", "is_top1")
        chunk = _CHUNKED_LOGPROB_CHUNK_SIZE
        log_probs, *_ = _ChunkedLogProbFunction.apply(
            hidden, weight, None, targets, 1.0, chunk, None, 1.0, outputs
        )
        return -log_probs.sum() / len(targets)
    if name in (TORCH, TORCH_WIDE):
        options = LinearCrossEntropyOptions()
        if name == TORCH_WIDE:
            options = LinearCrossEntropyOptions(batch_chunk_size=128, chunking_method=None)
        return F.linear_cross_entropy(hidden, weight, targets, options=options)
    term, length = name.split("/")
    example = torch.arange(len(targets), device=targets.device) // LENGTHS[length]
    return fused_cogcalib_loss(
        hidden,
        LinearHead(weight),
        targets,
        example,
        int(example[-1]) + 1,
        penalty=PENALTIES[term],
        alpha=0.1,
        gate=lambda nll, _: torch.ones_like(nll),
    ).loss


def compare(shape: Shape) -> list[Comparison]:
    """Every term and length of ours against each of theirs."""
    head = "frozen" if shape.frozen else "trained"
    found = []
    for term in PENALTIES:
        for length in LENGTHS:
            for theirs, against in AGAINST.items():
                found.append(
                    Comparison(
                        case=f"{term}/{length}/{head}/{theirs}",
                        ours=f"{head}/{term}/{length}",
                        theirs=f"{head}/{theirs}",
                        against=against,
                        time_limit=TIME_LIMITS.get(theirs, {}).get(term),
                        memory_limit=MEMORY_LIMITS[head] if theirs == TRL else None,
                    )
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=3)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    names = [TRL, TORCH, TORCH_WIDE, *(f"{t}/{n}" for t in PENALTIES for n in LENGTHS)]
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for frozen in (False, True):
        shape = Shape(
            options.tokens,
            options.hidden,
            options.vocabulary,
            options.dtype,
            options.device,
            frozen,
        )
        head = "frozen" if frozen else "trained"
        small = make_inputs(Shape(8, options.hidden, 1024, options.dtype, options.device, frozen))
        inputs = make_inputs(shape)
        for name in names:
            run(name, *small)  # libraries load at the first call
        work = {f"{head}/{name}": partial(run, name, *inputs) for name in names}
        seconds |= take_turns(work, options.repeats, options.device)
        del inputs, work
        comparisons += compare(shape)
        if not options.no_memory:
            for name in names:
                memory[f"{head}/{name}"] = peak_memory(make_work, (name, shape), options.device)
    settings = {**asdict(shape), "threads": options.threads, "repeats": options.repeats}
    del settings["frozen"]
    report(comparisons, seconds, memory, settings, options.json)


if __name__ == "__main__":
    main()
