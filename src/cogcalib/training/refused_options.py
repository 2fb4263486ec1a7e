"""Options of TRL and transformers that would train something else than meant, hence are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

from trl import SFTConfig

T = TypeVar("T")


def refuse_ignored_options(args: SFTConfig) -> None:
    """Raise for options of TRL and transformers that this trainer would not honour."""
    reasons = {
        "use_liger_kernel": "untested. TRL 1.16 leaves out Liger's fused loss, which computes "
        "cross-entropy only, and puts its layer kernels into the model, which need a GPU; with "
        "those in place nobody has compared this trainer's loss with the model's own",
        "label_smoothing_factor": "it would smooth what the model does not know as well; use "
        "penalty='label_smoothing' with gate='all' for uniform smoothing",
        "enable_jit_checkpoint": "it saves in the middle of a step, whose random numbers are used "
        "up and whose examples are counted already, and going on would repeat it with others and "
        "count them twice; use save_steps: a killed run goes on from its last checkpoint, to the "
        "bit",
    }
    for name, reason in reasons.items():
        if getattr(args, name):
            raise ValueError(f"{name}={getattr(args, name)!r} is not supported: {reason}")
    if args.loss_type == "dft":
        raise ValueError(
            "loss_type='dft' is not supported: it rescales the cross-entropy that the method "
            "balances against its penalty; use loss_type='nll'"
        )
    if args.truncation_mode == "keep_end":
        raise ValueError(
            "truncation_mode='keep_end' is not supported: it would cut the beginning of long "
            "prompts, and the NLL would measure the knowledge of another question; use "
            "'keep_start', with which an answer that would be cut is refused"
        )
    if args.dataset_kwargs and "skip_prepare_dataset" in args.dataset_kwargs:
        raise ValueError(
            "dataset_kwargs={'skip_prepare_dataset': ...} is not supported: preparation is "
            "where examples are checked; data sets with `input_ids` pass through unchanged"
        )


def refuse_packing_that_cuts(args: SFTConfig) -> None:
    """Raise for packing that would tear examples apart or let them see each other."""
    if args.eval_packing and not args.packing:
        raise ValueError(
            "eval_packing=True needs packing=True: otherwise the attention mask would let the "
            "examples packed for the evaluation see each other"
        )
    if not args.packing:
        return
    if args.packing_strategy == "wrapped":
        raise ValueError(
            "packing_strategy='wrapped' is not supported: it cuts examples where a row is full "
            "and lets them see each other, and the gate needs the NLL of a whole answer; use "
            "'bfd'"
        )
    if args.max_length is None:
        raise ValueError("packing=True needs max_length, the tokens of a row, got None")


def naming_slips(kind: type[T]) -> type[T]:
    """A data class whose constructor, given a keyword that it lacks, names the one that was meant.

    The TypeError is raised as without, with that behind it.
    """
    anyhow: Any = kind
    made: Callable[..., None] = anyhow.__init__
    known = [field.name for field in fields(anyhow) if field.init]

    @wraps(made)
    def __init__(self: T, *args: Any, **settings: Any) -> None:
        for name in settings:
            if name in known:
                continue
            from cogcalib.suggest import did_you_mean

            if meant := did_you_mean(name, known):
                raise TypeError(f"{kind.__name__} has no argument {name!r}{meant}")
        made(self, *args, **settings)

    anyhow.__init__ = __init__
    return kind
