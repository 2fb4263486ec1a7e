"""The grammar of method names: parsing, labels, descriptions, order and groups.

A name is a stem, then suffixes for another support, gate or alpha, then a post-hoc calibration:
``cols-options-random@0.1+ts`` is CoLS over the answer options with a random gate and alpha 0.1,
temperature-scaled; ``combls@0.2m4`` is CoMbLS with alpha 0.2 and a margin of 4 logits; ``focal@5``
is the focal loss with gamma 5, whose alpha is 1 by definition.

Nothing else takes a name apart. `Method.parse` refuses what is not of the grammar; `Method.read`
keeps it as it is, for reports of predictions that anybody made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cogcalib.scoring.confidence_names import CONFIDENCE_MAPS
from cogcalib.suggest import hint_first, whole_meant

AlphaWord = Literal["auto", "gap"]
"""What sets alpha while training goes on."""


@dataclass(frozen=True, slots=True)
class Stem:
    """The first part of a name.

    Attributes:
        label: As printed.
        about: One line for people; empty where penalty and gate say it all.
        penalty, gate: As in `Method`.
        trained: The training run it needs, where that is not its own.
    """

    label: str
    about: str = ""
    penalty: str | None = None
    gate: str = "none"
    trained: str | None = None


#: In canonical order. Lower-case forms of the names in the literature.
STEMS: dict[str, Stem] = {
    "base": Stem("Base", "the model before fine-tuning"),
    "sft": Stem("SFT", "plain cross-entropy fine-tuning"),
    "sft-early": Stem("SFT-early", "SFT as it was at the step of its lowest calibration NLL"),
    "drop_known": Stem("drop_known", "SFT without the training examples that the base model knows"),
    "drop_unknown": Stem(
        "drop_unknown", "SFT without the training examples that the base model does not know"
    ),
    "mc_dropout": Stem("MC dropout", "SFT, averaged over dropout masks at test time"),
    "ensemble": Stem("Ensemble", "SFT, averaged over several trainings", trained="sft"),
    "laplace": Stem("Laplace", "SFT, a Laplace approximation over the adapter", trained="sft"),
    "focal": Stem("focal", "", "focal", "all"),
    "ls": Stem("LS", "", "label_smoothing", "all"),
    "mbls": Stem("MbLS", "", "margin", "all"),
    "ecp": Stem("ECP", "", "entropy", "all"),
    "cols": Stem("CoLS", "", "label_smoothing", "nll"),
    "combls": Stem("CoMbLS", "", "margin", "nll"),
    "coecp": Stem("CoECP", "", "entropy", "nll"),
}
EARLY = "sft-early"
"""The stem that keeps the weights of another step than the last."""
COGCALIB = ("cols", "combls", "coecp")
"""The stems of the three methods this project is about."""
BASELINES = ("mc_dropout", "ensemble", "laplace")
"""Stems whose predictions come from more than one pass of one model."""
FREE_OF_OPTIONS = ("focal",)
"""Stems whose penalty knows no support but the vocabulary."""

_PENALTIES = {
    "label_smoothing": "label smoothing",
    "margin": "margin penalty",
    "entropy": "entropy penalty",
    "focal": "focal loss",
}
_GATES = {
    "nll": "on what the model already knows",
    "random": "on examples drawn at random, at the same rate (control)",
    "inverted": "on what the model does not know (control)",
    "oracle": "on what a probe of the base model found known",
    "soft": "on what the model knows, weighted without a hard edge",
    "prior": "on what the model knew when it first met it",
}
GATES = tuple(gate for gate in _GATES if gate != "nll")
_ALPHAS = {
    "auto": "alpha adjusted while training",
    "gap": "each example smoothed by what only training has added to that of its confidence",
}
#: Post-hoc calibration -> how it is printed and described.
_POSTHOC = {
    "ts": ("TS", "temperature scaling on the calibration split"),
    "platt": ("Platt", "Platt scaling on the calibration split"),
    "isotonic": ("isotonic", "isotonic regression on the calibration split"),
    "vector": ("vector", "vector scaling on the calibration split"),
    "daca": ("DACA", "a temperature without labels, by the base model where both agree"),
    "tsdaca": (
        "TS-DACA",
        "on other tasks the temperature halfway between that of temperature scaling on the "
        "calibration split and one without labels",
    ),
}
POSTHOC = tuple(_POSTHOC)
BY_BASE = ("daca", "tsdaca")
"""The post-hoc calibrations that rest on the base model's predictions of the same questions."""


@dataclass(frozen=True)
class Method:
    """One way to get a model and its confidence.

    Attributes:
        name: As given, such as ``cols-options@0.1+ts``.
        stem: What it begins with; empty for a name that is not of the grammar, see `read`.
        trained: Name of the training run it needs, without the post-hoc part.
        penalty: ``label_smoothing``, ``margin``, ``entropy``, ``focal``, or None for plain
            cross-entropy.
        gate: Which examples the penalty applies to.
        support: ``vocab`` or ``options``.
        alpha: Alpha in the name, ``auto`` for a self-tuned one, ``gap`` for each example's own;
            None: the configuration's.
        posthoc: One of `POSTHOC`, or None.
        margin: Of the margin penalty, in the name, in logits; None: the configuration's.
        gamma: Exponent of the focal loss, in the name; None: the trainer's.
    """

    name: str
    stem: str
    trained: str
    penalty: str | None
    gate: str
    support: str = "vocab"
    alpha: float | AlphaWord | None = None
    posthoc: str | None = None
    margin: float | None = None
    gamma: float | None = None

    @classmethod
    def parse(cls, name: str) -> Method:
        """Read a method's name.

        Raises:
            ValueError: Naming the part that is not understood and what is allowed there.
        """
        before, posthoc = split_posthoc(name)
        if before != name and posthoc not in POSTHOC:
            raise ValueError(
                f"method {name!r}: after '+' one of {', '.join(POSTHOC)} is allowed, "
                f"got {posthoc!r}{whole_meant(name, posthoc, POSTHOC)}"
            )
        stem, suffixes, alpha = _parts(before)
        if stem not in STEMS:
            meant, rest = whole_meant(name, stem, STEMS), f"it must begin with {', '.join(STEMS)}"
            raise ValueError(hint_first(f"there is no method {name!r}", meant, rest))
        if stem == "base" and posthoc in BY_BASE:
            raise ValueError(f"method {name!r}: +{posthoc} needs a model to hold against base")
        found = STEMS[stem]
        trained = found.trained or before
        method = cls(name, stem, trained, found.penalty, found.gate, posthoc=posthoc or None)
        for suffix in suffixes:
            method = method._with_suffix(suffix)
        return method if alpha is None else method._with_number(alpha)

    @classmethod
    def read(cls, name: str) -> Method:
        """As `parse`; a name that is not of the grammar is kept as it is, without a stem."""
        try:
            return cls.parse(name)
        except ValueError:
            return cls(name, "", name, None, "none")

    @property
    def baseline(self) -> str | None:
        """Which of `BASELINES` makes its predictions; None: one pass of one model."""
        return self.stem if self.stem in BASELINES else None

    @property
    def held_against_base(self) -> bool:
        """Whether its post-hoc calibration rests on the base model's answers to the questions."""
        return self.posthoc in BY_BASE

    @property
    def maps_confidence(self) -> bool:
        """Whether it maps the confidence alone, so that the NLL stays the model's, not its own."""
        return self.posthoc in CONFIDENCE_MAPS

    @property
    def before_posthoc(self) -> Method:
        """The method that its post-hoc calibration starts from."""
        return Method.parse(split_posthoc(self.name)[0])

    @property
    def training(self) -> Method:
        """What it trains: of ``cols-soft@0.20+ts`` that of ``cols-soft@0.2``, without its name."""
        return replace(self, name="", trained="", posthoc=None)

    @property
    def is_canonical(self) -> bool:
        """Whether it is a stem as it stands, or the base model or SFT with a temperature."""
        return self.name in STEMS or self.name in ("base+ts", "sft+ts")

    @property
    def is_cogcalib_variant(self) -> bool:
        """Whether it is CogCalib as it would be used: no other gate, no post-hoc calibration."""
        return self.stem in COGCALIB and self.gate == "nll" and self.posthoc is None

    @property
    def is_uniform(self) -> bool:
        """Whether it is a penalty of CogCalib's on every example, without post-hoc calibration."""
        gated = {STEMS[stem].penalty for stem in COGCALIB}
        return self.gate == "all" and self.penalty in gated and self.posthoc is None

    @property
    def label(self) -> str:
        """The name to print: ``CoLS-random@0.1 + TS`` for ``cols-random@0.1+ts``."""
        if not self.stem:
            return self.name
        printed = STEMS[self.stem].label + split_posthoc(self.name)[0].removeprefix(self.stem)
        return f"{printed} + {_POSTHOC[self.posthoc][0]}" if self.posthoc else printed

    @property
    def description(self) -> str:
        """One line on what it is; the name itself if that is not of the grammar."""
        parts = [self._about()]
        if self.support == "options":
            parts.append("over the answer options instead of the whole vocabulary")
        if isinstance(self.alpha, str):
            parts.append(_ALPHAS[self.alpha])
        elif self.alpha is not None:
            parts.append(f"alpha {self.alpha:g}")
        if self.margin is not None:
            parts.append(f"a margin of {self.margin:g} logits")
        if self.gamma is not None:
            parts.append(f"gamma {self.gamma:g}")
        if self.posthoc:
            parts.append(_POSTHOC[self.posthoc][1])
        return "; ".join(parts)

    def at(self, alpha: float, margin: float | None = None) -> str:
        """The name of this method with another alpha, and margin."""
        before, posthoc = split_posthoc(self.name)
        logits = "" if margin is None else f"m{margin:g}"
        return with_posthoc(f"{before.partition('@')[0]}@{alpha:g}{logits}", posthoc)

    def differs_in_support_only(self, other: Method) -> bool:
        """Whether two methods are the same but for the support of their penalty."""
        one, two = (replace(each, name="", trained="", support="") for each in (self, other))
        return self.support != other.support and one == two

    def _about(self) -> str:
        if not self.stem:
            return self.name
        if self.penalty is None:
            return STEMS[self.stem].about
        penalty = _PENALTIES[self.penalty]
        if self.gate == "all":
            return f"{penalty} on every example"
        return f"CogCalib: {penalty} {_GATES[self.gate]}"

    def _with_suffix(self, suffix: str) -> Method:
        if self.penalty is None:
            raise ValueError(f"method {self.name!r} has no penalty, so no suffix -{suffix}")
        free = self.stem not in FREE_OF_OPTIONS
        fits: dict[str, Method] = {}
        if self.support == "vocab" and free:
            fits["options"] = replace(self, support="options")
        if self.alpha is None and free:
            fits["auto"] = replace(self, alpha="auto")
        if self.alpha is None and self.penalty == "label_smoothing":
            fits["gap"] = replace(self, alpha="gap")
        if self.gate == "nll":
            fits |= {gate: replace(self, gate=gate) for gate in GATES}
        if suffix in fits:
            return fits[suffix]
        raise ValueError(
            hint_first(
                f"method {self.name!r}: suffix -{suffix} does not fit",
                whole_meant(self.name, suffix, fits),
                "it may be -options, -auto (once, not with "
                f"{', '.join(FREE_OF_OPTIONS)}), -gap (label smoothing, not with -auto) or, "
                f"on a gated method, one of {', '.join('-' + gate for gate in GATES)}",
            )
        )

    def _with_number(self, text: str) -> Method:
        if self.penalty is None or self.alpha is not None:
            raise ValueError(f"method {self.name!r} has no alpha to set, so no @{text}")
        if self.penalty == "focal":
            gamma = _number(text)
            if gamma is None or gamma < 1:
                raise ValueError(f"method {self.name!r}: after '@' a gamma >= 1 is allowed")
            return replace(self, gamma=gamma)
        number, m, margin = text.partition("m")
        alpha, logits = _number(number), _number(margin) if m else None
        if alpha is None:
            raise ValueError(f"method {self.name!r}: after '@' a number >= 0 is allowed")
        if m and (logits is None or self.penalty != "margin"):
            which = "m and a margin >= 0 are allowed after the alpha of mbls and combls"
            raise ValueError(f"method {self.name!r}: {which}")
        return replace(self, alpha=alpha, margin=logits)


def split_posthoc(name: str) -> tuple[str, str]:
    """A name before its post-hoc calibration, and that calibration; empty if there is none.

    Of a method (``cols@0.1+ts``) or of a table's row (``gated+ts``).
    """
    before, _, posthoc = name.partition("+")
    return before, posthoc


def with_posthoc(name: str, posthoc: str) -> str:
    """The name of a method or row with a post-hoc calibration; the name itself if that is empty."""
    return f"{name}+{posthoc}" if posthoc else name


def label(name: str) -> str:
    """The name to print of any method, also of one that is not of the grammar."""
    return Method.read(name).label


def canonical_order(name: str) -> tuple[int, int, str]:
    """Sorts names: the canonical ones, then variants by their stem, then other names."""
    method = Method.read(name)
    if not method.stem:
        return 2, 0, name
    return int(not method.is_canonical), list(STEMS).index(method.stem), name


def _parts(before: str) -> tuple[str, list[str], str | None]:
    """Stem, suffixes and what stands after ``@`` of a name without post-hoc calibration."""
    plain, at, alpha = before.partition("@")
    stem, *suffixes = plain.split("-")
    if plain == EARLY:  # the one stem with a hyphen, and no suffix goes with it
        stem, suffixes = EARLY, []
    return stem, suffixes, alpha if at else None


def _number(text: str) -> float | None:
    """A finite number >= 0, or None."""
    if not text.isascii() or "_" in text:  # float reads other scripts' digits, and 1_0 as 10
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
