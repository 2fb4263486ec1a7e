"""The words, tables and code of a model card, made of a `Calibration`."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cogcalib.artifacts import read_json
from cogcalib.deployment.calibration_file import (
    OPTIONS,
    AbstentionRule,
    Calibration,
    FittedMap,
    Halfway,
    SplitMetrics,
)
from cogcalib.deployment.card_code import EMBEDDED, hub_name, our_code, plain_code
from cogcalib.metrics import SMALL_N
from cogcalib.scoring.metrics_row import BINS

HOME = "https://github.com/cogcalib/cogcalib"
PAPER = (
    "Towards Objective Fine-tuning: How LLMs' Prior Knowledge Causes Potential Poor Calibration?"
)

NOTHING = "\u2013"
"""Where a table has nothing to show."""

METRICS = {
    "accuracy": "Accuracy, %",
    "ece": "ECE, %",
    "brier": "Brier score",
    "nll": "NLL, nats",
    "aurc": "AURC",
}
"""Metrics in the order shown, and how they are headed."""

_DEFINITIONS = {
    "options": "softmax over the log-probabilities of the question's options",
    "mean": "geometric mean of the probabilities of the generated tokens",
    "joint": "product of the probabilities of the generated tokens",
}
_MAPS = {
    "temperature": "temperature",
    "platt": "Platt scaling",
    "isotonic": "isotonic regression",
    "vector": "vector scaling",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def markdown(value: object) -> Markup:
    """A value as text in Markdown, on one line: nothing in it is a mark, a tag or a control.

    What is `Markup` already is left as it is.
    """
    if isinstance(value, Markup):
        return value
    return Markup(_SPECIAL.sub(r"\\\1", html.escape(one_line(value), quote=False)))


def one_line(value: object) -> str:
    """A value as text without line ends, controls and marks that turn the writing round."""
    plain = "".join(
        " " if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") else each
        for each in str(value)
    )
    return " ".join(plain.split())


class CardText:
    """The parts of one model's card.

    Args:
        folder: Of the model, which tells whether it is an adapter.
        calibration: What is beside it.
        images: Number of a set of questions -> name of its reliability diagram.
        repository: Name of the model on the hub, if it has one.
    """

    def __init__(
        self,
        folder: Path,
        calibration: Calibration,
        images: Mapping[int, str],
        repository: str | None = None,
    ) -> None:
        config = folder / "adapter_config.json"
        self.adapter: Mapping[str, Any] | None = (
            read_json(config, dict) if config.is_file() else None
        )
        self.calibration = calibration
        self.images = images
        self.repository = repository

    @property
    def base(self) -> str | None:
        """Name of the model that was trained, as far as it is known."""
        if self.adapter is not None:
            return self.calibration.model.name
        base = self.calibration.trained_on.get("base")
        return base if isinstance(base, str) else None

    @property
    def hub_base(self) -> str | None:
        """Its name on the hub, if it is there."""
        commit = None if self.adapter is None else self.calibration.model.commit
        return hub_name(self.base, commit) if self.base else None

    @property
    def name(self) -> str:
        """What the model is called."""
        if self.repository:
            return self.repository.rpartition("/")[2]
        if self.base:
            return f"{self.base.rpartition('/')[2]}-cogcalib"
        return self.calibration.model.name

    def content(self, *, metadata: str, marker: str) -> dict[str, Any]:
        """The names that the template uses."""
        calibration = self.calibration
        definition = calibration.answers.confidence
        adapter = self.adapter is not None
        return {
            "metadata": Markup(metadata),
            "marker": Markup(marker),
            "title": self.name,
            "home": Markup(HOME),
            "paper": PAPER,
            "opening": self._opening(),
            "facts": list(self._facts()),
            "definition": definition,
            "sets": [self._set(*each) for each in enumerate(calibration.metrics)],
            "floors": ", ".join(
                f"{100 * 0.3 * math.sqrt(BINS / n):.1f} % at n = {n:,}"
                for n in dict.fromkeys(each.n for each in calibration.metrics)
            ),
            "rules": [_rule(each) for each in calibration.rules],
            "ours": Markup(our_code(calibration, adapter, self.repository)),
            "plain": Markup(plain_code(calibration, adapter, self.repository)),
            "answers": Markup(self._answers()),
            "limits": list(self._limits()),
            "versions": _versions(calibration.versions),
        }

    def _answers(self) -> str:
        """What an answer holds, and what is missing without cogcalib."""
        calibrated, ruled = self.calibration.map is not None, bool(self.calibration.rules)
        own = "calibrated" if calibrated else "the model's own"
        rule = "whether the rule above holds it back" if ruled else "False, for want of a rule"
        without = "Without cogcalib it is a model as any other"
        if self.adapter is not None and self.base in EMBEDDED:
            without = "The base model comes with cogcalib; all else is plain transformers and PEFT"
        return f"The confidence is {own}, and `answer.abstain` says {rule}.\n{without}" + (
            ", with confidences that are not calibrated:" if calibrated else ":"
        )

    def _opening(self) -> Markup:
        if self.adapter is not None:
            return Markup(f"An adapter for {self._base()},")
        return Markup(f"{self._base()}," if self.base else "A language model,")

    def _base(self) -> Markup:
        name = markdown(self.base)
        return (
            Markup(f"[{name}](https://huggingface.co/{self.hub_base})") if self.hub_base else name
        )

    def _facts(self) -> Iterator[tuple[str, object]]:
        calibration, answers = self.calibration, self.calibration.answers
        model = calibration.model
        if self.base:
            yield "Base model", self._base()
        yield "Weights", _weights(self.adapter)
        of = "Files" if self.adapter is None else "Files of the base"
        if model.sha256:
            yield of, Markup(f"sha256 {_code(model.sha256)}")
        if model.commit:
            yield of, Markup(f"commit {_code(model.commit)}")
        if calibration.method:
            yield "Training", calibration.method
        if trained := _trained_on(calibration.trained_on):
            yield "Trained on", trained
        if answers.kind == OPTIONS:
            yield "Answers", "one of the options of a question"
        else:
            yield "Answers", f"generated, at most {answers.max_new_tokens} tokens"
        if answers.preset:
            yield "Prompts", Markup(f"preset {_code(answers.preset)}")
        else:
            yield "Prompts", "as they are"
        if calibration.precision:
            yield "Calibrated in" if calibration.map else "Measured in", calibration.precision
        meaning = _DEFINITIONS[answers.confidence]
        yield "Confidence", Markup(f"{_code(answers.confidence)}: {meaning}")
        yield "Calibrated by", _map(calibration)

    def _set(self, number: int, measured: SplitMetrics) -> dict[str, Any]:
        rows = [
            (title, _shown(name, measured.raw), _shown(name, measured.calibrated))
            for name, title in METRICS.items()
            if name in measured.raw or name in measured.calibrated
        ]
        which = "of the model's own and of the calibrated" if measured.calibrated else "of the"
        gap = " and ".join(
            f"ECE {100 * each['ece']['value']:.1f} %"
            for each in (measured.raw, measured.calibrated)
            if "ece" in each
        )
        return {
            "split": Markup(f"{_code(measured.split)} (sha256 {_code(measured.sha256[:16])})"),
            "n": f"{measured.n:,}",
            "rows": rows,
            "forced": measured.teacher_forced,
            "calibrated": bool(measured.calibrated),
            "image": self.images.get(number, ""),
            "alt": f"Reliability diagram {which} confidence on {measured.split}: {gap}",
        }

    def _limits(self) -> Iterator[str]:
        calibration = self.calibration
        if calibration.metrics:
            yield Markup(
                "The figures hold for questions that are put like these and drawn like them. About "
                "other subjects or in another wording the confidence may be off: measure it there, "
                "with `cogcalib recalibrate`."
            )
        seen = "gate none" not in calibration.method
        if seen and any(each.split == "calibration" for each in calibration.metrics):
            yield (
                "Training looked at the calibration split, for the threshold and for what else is "
                "chosen on it, so that figures on it flatter the model."
            )
        fitted = calibration.map
        if fitted and any(each.sha256 == fitted.sha256 for each in calibration.metrics):
            yield (
                "The calibrated figures are out of fold: each question was judged by a map that "
                "was fitted to others, not by the one that is kept, which was fitted to all."
            )
        if any(each.teacher_forced for each in calibration.metrics):
            yield Markup(
                "Figures under teacher forcing are of no generated answer: each token is read off "
                "behind those of the correct answer, so that a wrong answer's confidence is "
                "another when it is generated. `cogcalib recalibrate` measures the answers that "
                "the model gives."
            )
        if small := [each.n for each in calibration.metrics if each.n < SMALL_N]:
            yield f"With n = {min(small):,} much of a calibration error is noise."
        if calibration.rules:
            yield (
                "What a rule of abstention promises holds for questions drawn like the held-out "
                "ones, and for no others."
            )
        yield (
            "A confidence is the chance that an answer matches the accepted one. It says nothing "
            "about harm or bias, or whether a question should be answered at all."
        )


def _code(text: str) -> str:
    """Text as a code span, in which a backtick or a bar would end more than itself."""
    plain = one_line(re.sub(r"[`|]", " ", text))
    return f"`{plain}`" if plain else NOTHING


def _weights(adapter: Mapping[str, Any] | None) -> str:
    if adapter is None:
        return "all of the model's"
    kind, rank = adapter.get("peft_type"), adapter.get("r")
    named = "LoRA" if kind == "LORA" else str(kind or "PEFT")
    return f"{named} adapter" + (f", rank {rank}" if isinstance(rank, int) else "")


def _trained_on(trained_on: Mapping[str, Any]) -> Markup | None:
    parts = []
    n, tasks, off = (trained_on.get(name) for name in ("n", "tasks", "split_off"))
    if isinstance(n, int):
        names = ", ".join(markdown(each) for each in tasks) if isinstance(tasks, list) else ""
        parts.append(f"{n:,} questions" + (f" of {names}" if names else ""))
    if isinstance(digest := trained_on.get("sha256"), str):
        parts.append(f"sha256 {_code(digest)}")
    if isinstance(off, int):
        parts.append(f"{off:,} more were split off for calibration")
    return Markup(", ".join(parts)) if parts else None


def _map(calibration: Calibration) -> Markup:
    fitted, folded = calibration.map, calibration.folded_temperature
    if fitted is None:
        if folded is not None:
            return Markup(f"temperature {folded:.3g}, which is in the weights")
        return Markup("nothing further: the model's own confidence stands")
    number = fitted.parameters.get("temperature")
    value = f" {number:.3g}" if isinstance(number, float | int) else ""
    found_by = f"fitted on {_questions(fitted)}"
    if (way := fitted.halfway) is not None:
        found_by = (
            f"for questions like the {_questions(way)}: the geometric mean of {way.in_domain:.3g}, "
            f"{found_by}, and {way.to_base:.3g}, fitted without labels to the confidence of "
            f"{markdown(way.base.name)} where both answer alike ({way.agreeing:,})"
        )
    return Markup(f"{_MAPS[fitted.method]}{value}, {found_by}")


def _questions(fitted: FittedMap | Halfway) -> str:
    name, digest = markdown(fitted.source), _code(fitted.sha256[:16])
    return f"{fitted.n:,} questions of {name} (sha256 {digest})"


def _shown(name: str, metrics: Mapping[str, Mapping[str, float]]) -> str:
    if name not in metrics:
        return NOTHING
    row = metrics[name]
    scale, digits = (100, 1) if METRICS[name].endswith("%") else (1, 3)
    value, low, high = (f"{scale * row[key]:.{digits}f}" for key in ("value", "low", "high"))
    return Markup(f"{value} [{low}, {high}]")


def _rule(rule: AbstentionRule) -> tuple[object, ...]:
    n = f"{rule.n:,} of {rule.source} (sha256 {rule.sha256[:16]})"
    head = (f"{100 * rule.target_error:g} %", f"{100 * (1 - rule.delta):g} %")
    if rule.threshold is None:
        reason = f"nothing is promised: {rule.reason}" if rule.reason else "nothing is promised"
        return (*head, reason, NOTHING, NOTHING, n)
    low, high = (f"{100 * each:.1f}" for each in rule.coverage_interval[:2])
    error = NOTHING if rule.error is None else f"{100 * rule.error:.1f} %"
    answered = Markup(f"{100 * rule.coverage:.1f} % [{low}, {high}]")
    return (*head, f"{rule.threshold:.4f}", answered, error, n)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {each}" for name, each in versions.items())
