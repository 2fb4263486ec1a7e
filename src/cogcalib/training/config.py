"""The training arguments: TRL's `SFTConfig` and what the method adds to it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Self, cast, get_args

from trl import SFTConfig

from cogcalib.losses import GATES, GateKind, MarginReduction, Penalty, PenaltyKind, Support
from cogcalib.losses.objective import NllReduction
from cogcalib.losses.terms import check_choice
from cogcalib.training import defaults, refused_options
from cogcalib.training.alpha_controller import AlphaController, read_alpha
from cogcalib.training.schedule import read_style_steps, read_threshold_every
from cogcalib.training.secrets_kept import SecretsKept
from cogcalib.training.supervision import UNITS, Unit

GATES_WITHOUT_THRESHOLD = ("none", "all", "oracle")
"""Gates that ask for no threshold, hence for no calibration data set."""

NAMES: dict[str, tuple[str, ...]] = {
    "penalty": get_args(PenaltyKind),
    "support": ("vocab", "options", "auto"),
    "gate": GATES,
    "margin_reduction": get_args(MarginReduction),
    "nll_reduction": get_args(NllReduction),
    "unit": UNITS,
}
"""Argument -> what it may be."""


@refused_options.naming_slips
@dataclass
class CogCalibConfig(SecretsKept, SFTConfig):
    r"""Configuration of the [`CogCalibTrainer`]: every field of [`~trl.SFTConfig`], and these.

    Parameters:
        penalty (`str`, defaults to `"label_smoothing"`):
            The penalty R put on what the model knows: `"label_smoothing"` (CoLS), `"margin"`
            (CoMbLS), `"entropy"` (CoECP), or `"focal"`, with which CE + R is the focal loss
            (1 - p)^gamma CE. The focal loss as published is `gate="all"`, `style_steps=0`.
        alpha (`float`, *optional*):
            Weight of the penalty: the loss of a known example is CE + alpha * R. If `None`, `"gap"`
            for label smoothing over the options with gate `"nll"` or `"prior"`; else the best of
            a sweep over each penalty on the embedded model: 0.2 for label smoothing and margin, 0.4
            for entropy, 1 for focal. Choose such a number on your calibration split. `"auto"` lets
            that split steer it whenever the threshold is estimated, from the sweep's best towards a
            mean confidence that equals the accuracy (`cogcalib.training.alpha_controller`). That
            takes at least four estimates: see `threshold_every`. `"gap"`, for label smoothing,
            gives each known example an alpha of its own, which takes off only what training has
            added to the accuracy that the calibration split shows at its confidence
            (`cogcalib.losses.gap_curve`).
        support (`str`, defaults to `"auto"`):
            Tokens whose logits are penalised: the whole vocabulary (`"vocab"`, the paper's), or the
            answer `"options"` at the token where they compete (needs a column `option_ids` or
            `options`). `"auto"`: the options where the training data set has such a column, with
            `unit="example"`, else the vocabulary. The embedded model is better over the options.
        gate (`str`, defaults to `"nll"`):
            Which examples are penalised. `"nll"`: those whose NLL is at most the threshold, the
            method. Controls: `"none"` (plain fine-tuning, TRL's SFT), `"all"`, `"random"` (as many
            as `"nll"`, drawn), `"inverted"`, `"oracle"` (a column `known` of True or False),
            `"soft"` (a sigmoid). `"prior"`: as `"nll"` when an example is first met after the style
            phase, and never judged again (`cogcalib.training.prior_labels`; needs
            `unit="example"`).
        style_steps (`int`, `float` or `"auto"`, defaults to `0.2`):
            Optimiser steps of plain cross-entropy before any example is penalised, so that the NLL
            measures knowledge and not unfamiliarity with the format: a number of steps, a share in
            [0, 1) of all steps, or `"auto"`. `"auto"` measures every `threshold_every` steps, and
            at least six times, how well the NLL separates known from unknown, and ends the phase
            when two measurements in a row improve on the best by less than 0.01, or after 30 % of
            all steps.
        threshold_every (`int` or `float`, *optional*):
            Optimiser steps between two estimates of the threshold: a number of steps, or a share in
            (0, 1] of an epoch. Mind the type: `1` is every step, `1.0` every epoch. If `None`, so
            seldom that estimating takes about 2 % of the training time, but one to four times an
            epoch, and three times or more in the first one after the style phase: where there are
            fewer than 14 training examples to a calibration example it costs more.
        margin (`float`, *optional*):
            Logit gap tolerated by the penalty `"margin"`. If `None`, 8 over the vocabulary and 2
            over the options.
        margin_reduction (`str`, defaults to `"mean"`):
            How `"margin"` reduces over the support, `"mean"` or `"sum"`.
        entropy_floor (`float`, *optional*):
            Entropy in nats above which the penalty `"entropy"` stops pushing.
        gamma (`float`, defaults to `3.0`):
            Exponent of the penalty `"focal"`, at least 1. 3 is FL-3, the fixed exponent that
            Mukhoti et al. (2020) report.
        nll_reduction (`str`, defaults to `"mean"`):
            How the NLL of an answer reduces over its tokens, `"mean"` or `"sum"`.
        gate_temperature (`float`, defaults to `0.1`):
            Width in nats of the gate `"soft"`.
        unit (`str`, defaults to `"example"`):
            What has one NLL, is known or not, and is penalised or not. `"example"`: all supervised
            tokens of an example together, those of a whole conversation included. `"turn"`: each
            turn of the assistant by itself (needs `assistant_only_loss=True`, or tokenised examples
            with labels); a turn is a run of supervised tokens without a gap. `"token"`: each token
            by itself. Options compete at the first token of the example, with `"turn"` and
            `"token"` of its last turn; a label `known` goes for all units of its example.
        ledger (`bool`, defaults to `True`):
            Whether to keep the knowledge ledger, `ledger/` in `output_dir`: what the training saw
            of each example at each pass (`cogcalib.knowledge.ledger`). Examples go by a column
            `example_id`, else by their number.
        learn_prompts (`bool`, defaults to `False`):
            Says that prompts are meant to be trained on as well, where a column of plain text, or
            messages without `assistant_only_loss=True`, would do so and a threshold is estimated.
        calibration_share (`float`, defaults to `0.1`):
            Share of the training questions, in (0, 0.5], that become the calibration split instead
            where one is needed and not given: at least 100, at most 2,000, chosen by their hash.
        eval_calibration (`bool`, defaults to `True`):
            Whether evaluation also gives `eval_accuracy`, `eval_ece` (15 bins of equal width),
            `eval_brier`, `eval_aurc` and, with options, `eval_nll`: see docs/metrics.md.

    `padding_free=True` and `packing=True` (strategies `"bfd"` and `"bfd_split"`) change neither the
    loss nor its gradient: examples keep their own NLL, options and labels. On the first batch the
    model is tried for whether examples in one row see each other, and refused if so. What is longer
    than `max_length` is cut as without packing, where no answer is cut by it, never split.

    Raises:
        ValueError: For a value out of range, or an option of TRL this trainer would not honour.
    """

    penalty: str = field(
        default="label_smoothing",
        metadata={
            "help": "Penalty put on what the model knows: `'label_smoothing'` (CoLS), `'margin'` "
            "(CoMbLS), `'entropy'` (CoECP) or `'focal'` (the focal loss).",
            "choices": list(NAMES["penalty"]),
        },
    )
    alpha: float | str | None = field(
        default=None,
        metadata={
            "help": "Weight of the penalty: the loss of a known example is CE + alpha R. If "
            "None, `'gap'` for label smoothing of known examples over options, else 0.2 for label "
            "smoothing and margin, 0.4 for entropy, 1 for focal. `'auto'` lets the calibration "
            "split steer it; `'gap'` gives each example its own."
        },
    )
    support: str = field(
        default="auto",
        metadata={
            "help": "Tokens whose logits are penalised: the whole vocabulary, or the answer "
            "options at the token where they compete; `'auto'`: options where the data have them.",
            "choices": ["vocab", "options", "auto"],
        },
    )
    gate: str = field(
        default="nll",
        metadata={
            "help": "Which examples are penalised: `'nll'` (the method) or one of its controls.",
            "choices": list(GATES),
        },
    )
    # With None in the union, HfArgumentParser hands the command line's string over as it is.
    style_steps: float | str | None = field(
        default=defaults.STYLE_STEPS,
        metadata={
            "help": "Optimiser steps of plain cross-entropy before any example is penalised: a "
            "number of steps, a share in [0, 1) of all steps, or `'auto'`."
        },
    )
    threshold_every: float | str | None = field(
        default=None,
        metadata={
            "help": "Optimiser steps between two estimates of the threshold: a number of steps, or "
            "a share in (0, 1] of an epoch. `1` is every step, `1.0` every epoch. If None, one to "
            "four times an epoch, three or more in the first after the style phase, for about two "
            "percent of the training time; more where calibration examples are many."
        },
    )
    margin: float | None = field(
        default=None,
        metadata={
            "help": "Logit gap tolerated by the penalty `'margin'`. If None, 8 over the vocabulary "
            "and 2 over the options."
        },
    )
    margin_reduction: str = field(
        default="mean",
        metadata={
            "help": "How the penalty `'margin'` reduces over the support.",
            "choices": ["mean", "sum"],
        },
    )
    entropy_floor: float | None = field(
        default=None,
        metadata={
            "help": "Entropy in nats above which the penalty `'entropy'` stops pushing. If None, "
            "it never stops."
        },
    )
    gamma: float = field(
        default=3.0,
        metadata={"help": "Exponent of the penalty `'focal'`, at least 1."},
    )
    nll_reduction: str = field(
        default="mean",
        metadata={
            "help": "How the NLL of an answer reduces over its tokens.",
            "choices": ["mean", "sum"],
        },
    )
    gate_temperature: float = field(
        default=0.1,
        metadata={"help": "Width in nats of the gate `'soft'`."},
    )
    unit: str = field(
        default=defaults.UNIT,
        metadata={
            "help": "What has one NLL and is penalised or not: all supervised tokens of an "
            "`'example'`, each `'turn'` of the assistant by itself, or each `'token'`.",
            "choices": list(UNITS),
        },
    )
    ledger: bool = field(
        default=True,
        metadata={"help": "Whether to keep a ledger of what the training saw of each example."},
    )

    learn_prompts: bool = field(
        default=False,
        metadata={"help": "Whether prompts are meant to be trained on as well."},
    )
    calibration_share: float = field(
        default=0.1,
        metadata={"help": "Share of the training set split off if no calibration set is given."},
    )
    eval_calibration: bool = field(
        default=True,
        metadata={"help": "Whether evaluation gives accuracy, ECE, Brier score and AURC, too."},
    )

    __repr__ = SecretsKept.__str__

    def __post_init__(self) -> None:
        from cogcalib.training.trl_defaults import settle_defaults

        self._validate_method()
        refused_options.refuse_ignored_options(self)
        refused_options.refuse_packing_that_cuts(self)
        settle_defaults(self)
        super().__post_init__()

    def build_penalty(self) -> Penalty:
        """The penalty these arguments describe."""
        return Penalty(
            kind=cast(PenaltyKind, self.penalty),
            support=self._settled,
            margin=self._margin,
            margin_reduction=cast(MarginReduction, self.margin_reduction),
            entropy_floor=self.entropy_floor,
            gamma=self.gamma,
        )

    def settled(self, options: bool) -> Self:
        """What a trainer goes by: a copy in which nothing is left to `None` or `support="auto"`.

        These arguments stay as they were given, to be used again with other data or replaced.

        Args:
            options: Whether the training data set has options.
        """
        settled = copy.copy(self)
        if self.support == "auto":
            fits = options and self.penalty != "focal" and self.unit == "example"
            settled.support = "options" if fits else "vocab"
        if self.alpha is None:
            settled.alpha = "gap" if settled._has_own_alphas else settled.initial_alpha
        settled.margin = settled._margin
        return settled

    @property
    def _settled(self) -> Support:
        """The support, until the data are seen the vocabulary."""
        return "vocab" if self.support == "auto" else cast(Support, self.support)

    @property
    def _has_own_alphas(self) -> bool:
        """Whether `alpha`, left open, is "gap", which was chosen over options."""
        smoothed = (self.penalty, self._settled) == ("label_smoothing", "options")
        return smoothed and self.gate in ("nll", "prior")

    @property
    def gate_name(self) -> GateKind:
        """`gate`, typed."""
        return cast(GateKind, self.gate)

    @property
    def nll_reduction_name(self) -> NllReduction:
        """`nll_reduction`, typed."""
        return cast(NllReduction, self.nll_reduction)

    @property
    def unit_name(self) -> Unit:
        """`unit`, typed."""
        return cast(Unit, self.unit)

    @property
    def initial_alpha(self) -> float:
        """`alpha`, a number: if None or "auto" the sweep's; 1 where each example has its own."""
        if self.alpha == "gap":
            return 1.0
        if self.alpha is None or self.alpha == "auto":
            return defaults.ALPHA[self.penalty][self._settled]
        return cast(float, self.alpha)

    @property
    def _margin(self) -> float:
        """`margin`, or if None that of the sweep."""
        return defaults.MARGIN[self._settled] if self.margin is None else self.margin

    @property
    def alpha_controller(self) -> AlphaController | None:
        """What tunes `alpha`; None if nothing does."""
        if self.alpha != "auto":
            return None
        usual = self.initial_alpha
        return AlphaController(
            scale=usual / defaults.ALPHA["label_smoothing"][self._settled],
            largest=1.0 if self.penalty == "label_smoothing" else 10 * usual,
            start=usual,
        )

    def _validate_method(self) -> None:
        # Names first: what is wrong with an alpha, or the sweep's numbers, go by them.
        for name, there_are in NAMES.items():
            check_choice(name, getattr(self, name), there_are)
        self.alpha = read_alpha(self.alpha, self.penalty, self.gate)
        self.build_penalty()
        if self.gate == "prior" and self.unit != "example":
            raise ValueError(f"gate='prior' needs unit='example', got {self.unit!r}")
        if not 0 <= self.initial_alpha < math.inf:
            raise ValueError(f"alpha must be a finite number >= 0, got {self.alpha}")
        if self.penalty in ("label_smoothing", "focal") and self.initial_alpha > 1:
            raise ValueError(
                f"alpha must be <= 1 with penalty={self.penalty!r}, which weighs the "
                f"cross-entropy with 1 - alpha, got {self.alpha}"
            )
        if not 0 < self.calibration_share <= 0.5:
            raise ValueError(f"calibration_share must be in (0, 0.5], got {self.calibration_share}")
        if not 0 < self.gate_temperature < math.inf:
            raise ValueError(
                f"gate_temperature must be a finite number > 0, got {self.gate_temperature}"
            )
        self.style_steps = read_style_steps(self.style_steps, self.gate, self.max_steps)
        if self.threshold_every is not None:
            self.threshold_every = read_threshold_every(self.threshold_every)
