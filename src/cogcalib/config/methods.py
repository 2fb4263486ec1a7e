"""Names of methods, and what they mean.

A name is a stem, then suffixes for another support or gate, then a post-hoc calibration:
``cols-options-random+ts`` is CoLS over the answer options with a random gate, temperature-scaled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Stem -> (penalty, gate). Lower-case forms of the names in the literature.
STEMS: dict[str, tuple[str | None, str]] = {
    "base": (None, "none"),
    "sft": (None, "none"),
    "ls": ("label_smoothing", "all"),
    "mbls": ("margin", "all"),
    "ecp": ("entropy", "all"),
    "cols": ("label_smoothing", "nll"),
    "combls": ("margin", "nll"),
    "coecp": ("entropy", "nll"),
}
GATES = ("random", "inverted", "oracle", "soft")
POSTHOC = ("ts",)


@dataclass(frozen=True)
class Method:
    """One way to get a model and its confidence.

    Attributes:
        name: As given, such as ``cols-options+ts``.
        trained: Name of the training run it needs, without the post-hoc part.
        penalty: ``label_smoothing``, ``margin``, ``entropy``, or None for plain cross-entropy.
        gate: Which examples the penalty applies to.
        support: ``vocab`` or ``options``.
        posthoc: ``ts`` (temperature scaling) or None.
    """

    name: str
    trained: str
    penalty: str | None
    gate: str
    support: str = "vocab"
    posthoc: str | None = None

    @classmethod
    def parse(cls, name: str) -> Method:
        """Read a method's name.

        Raises:
            ValueError: Naming the part that is not understood and what is allowed there.
        """
        trained, plus, posthoc = name.partition("+")
        if plus and posthoc not in POSTHOC:
            raise ValueError(
                f"method {name!r}: after '+' one of {', '.join(POSTHOC)} is allowed, "
                f"got {posthoc!r}"
            )
        stem, *suffixes = trained.split("-")
        if stem not in STEMS:
            raise ValueError(f"method {name!r} must begin with one of {', '.join(STEMS)}")
        penalty, gate = STEMS[stem]
        method = cls(name, trained, penalty, gate, posthoc=posthoc or None)
        for suffix in suffixes:
            method = method._with_suffix(suffix)
        return method

    def _with_suffix(self, suffix: str) -> Method:
        if self.penalty is None:
            raise ValueError(f"method {self.name!r} has no penalty, so no suffix -{suffix}")
        if suffix == "options" and self.support == "vocab":
            return replace(self, support="options")
        if suffix in GATES and self.gate == "nll":
            return replace(self, gate=suffix)
        raise ValueError(
            f"method {self.name!r}: suffix -{suffix} must be -options (once) or, on a gated "
            f"method, one of {', '.join('-' + gate for gate in GATES)}"
        )
