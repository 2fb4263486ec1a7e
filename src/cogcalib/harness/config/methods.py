"""Names of methods, and what they mean.

A name is a stem, then suffixes for another support, gate or strength, then a post-hoc calibration:
``cols-options-random@0.1+ts`` is CoLS over the answer options with a random gate and alpha 0.1,
temperature-scaled; ``combls@0.2m4`` is CoMbLS with alpha 0.2 and a margin of 4 logits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

#: Stem -> (penalty, gate). Lower-case forms of the names in the literature.
STEMS: dict[str, tuple[str | None, str]] = {
    "base": (None, "none"),
    "sft": (None, "none"),
    "drop_known": (None, "none"),
    "drop_unknown": (None, "none"),
    "mc_dropout": (None, "none"),
    "ensemble": (None, "none"),
    "laplace": (None, "none"),
    "ls": ("label_smoothing", "all"),
    "mbls": ("margin", "all"),
    "ecp": ("entropy", "all"),
    "focal": ("focal", "all"),
    "cols": ("label_smoothing", "nll"),
    "combls": ("margin", "nll"),
    "coecp": ("entropy", "nll"),
}
GATES = ("random", "inverted", "oracle", "soft")
POSTHOC = ("ts", "platt", "isotonic", "vector")
BASELINES = ("mc_dropout", "ensemble", "laplace")
"""Stems whose predictions come from more than one pass of one model."""
FREE_OF_OPTIONS = ("focal",)
"""Stems whose penalty knows no support but the vocabulary."""

# What a stem is fine-tuned as, where that is not the stem itself.
_TRAINED_AS = {"ensemble": "sft", "laplace": "sft"}


@dataclass(frozen=True)
class Method:
    """One way to get a model and its confidence.

    Attributes:
        name: As given, such as ``cols-options@0.1+ts``.
        stem: What it begins with.
        trained: Name of the training run it needs, without the post-hoc part.
        penalty: ``label_smoothing``, ``margin``, ``entropy``, ``focal``, or None for plain
            cross-entropy.
        gate: Which examples the penalty applies to.
        support: ``vocab`` or ``options``.
        alpha: Strength in the name, ``auto`` for a self-tuned one, ``calibrated`` for each known
            example's own; None: the configuration's.
        posthoc: One of `POSTHOC`, or None.
        margin: Of the margin penalty, in the name; None: the configuration's.
    """

    name: str
    stem: str
    trained: str
    penalty: str | None
    gate: str
    support: str = "vocab"
    alpha: float | Literal["auto", "calibrated"] | None = None
    posthoc: str | None = None
    margin: float | None = None

    @classmethod
    def parse(cls, name: str) -> Method:
        """Read a method's name.

        Raises:
            ValueError: Naming the part that is not understood and what is allowed there.
        """
        before, plus, posthoc = name.partition("+")
        if plus and posthoc not in POSTHOC:
            raise ValueError(
                f"method {name!r}: after '+' one of {', '.join(POSTHOC)} is allowed, "
                f"got {posthoc!r}"
            )
        plain, at, alpha = before.partition("@")
        stem, *suffixes = plain.split("-")
        if stem not in STEMS:
            raise ValueError(f"method {name!r} must begin with one of {', '.join(STEMS)}")
        penalty, gate = STEMS[stem]
        trained = _TRAINED_AS.get(stem, before)
        method = cls(name, stem, trained, penalty, gate, posthoc=posthoc or None)
        for suffix in suffixes:
            method = method._with_suffix(suffix)
        if method.baseline and posthoc == "ts":
            raise ValueError(
                f"method {name!r}: a temperature divides the logits of one model, {stem} has none; "
                "+platt and +isotonic map its confidence"
            )
        return method._with_alpha(alpha) if at else method

    @property
    def baseline(self) -> str | None:
        """Which of `BASELINES` makes its predictions; None: one pass of one model."""
        return self.stem if self.stem in BASELINES else None

    @property
    def before_posthoc(self) -> Method:
        """The method that its post-hoc calibration starts from."""
        return Method.parse(self.name.partition("+")[0])

    def at(self, alpha: float, margin: float | None = None) -> str:
        """The name of this method with another strength, and margin."""
        before, plus, posthoc = self.name.partition("+")
        logits = "" if margin is None else f"m{margin:g}"
        return f"{before.partition('@')[0]}@{alpha:g}{logits}{plus}{posthoc}"

    def _with_suffix(self, suffix: str) -> Method:
        if self.penalty is None:
            raise ValueError(f"method {self.name!r} has no penalty, so no suffix -{suffix}")
        free = self.stem not in FREE_OF_OPTIONS
        if suffix == "options" and self.support == "vocab" and free:
            return replace(self, support="options")
        if suffix == "auto" and self.alpha is None and free:
            return replace(self, alpha="auto")
        if suffix == "calibrated" and self.alpha is None and self.penalty == "label_smoothing":
            return replace(self, alpha="calibrated")
        if suffix in GATES and self.gate == "nll":
            return replace(self, gate=suffix)
        raise ValueError(
            f"method {self.name!r}: suffix -{suffix} must be -options, -auto (once, not with "
            f"{', '.join(FREE_OF_OPTIONS)}), -calibrated (label smoothing, without -auto) or, on a "
            "gated method, one of "
            f"{', '.join('-' + gate for gate in GATES)}"
        )

    def _with_alpha(self, text: str) -> Method:
        if self.penalty is None or self.alpha is not None:
            raise ValueError(f"method {self.name!r} has no strength to set, so no @{text}")
        strength, m, margin = text.partition("m")
        alpha, logits = _number(strength), _number(margin) if m else None
        if alpha is None:
            raise ValueError(f"method {self.name!r}: after '@' a number >= 0 is allowed")
        if m and (logits is None or self.penalty != "margin"):
            raise ValueError(
                f"method {self.name!r}: m and a margin >= 0 are allowed after the strength of "
                "mbls and combls"
            )
        return replace(self, alpha=alpha, margin=logits)


def _number(text: str) -> float | None:
    """A finite number >= 0, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
