"""The file `calibration.json`: how a model's confidence is to be read, beside the model itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.artifacts import read_json, to_record
from cogcalib.provenance import versions
from cogcalib.records import InputError, check_preset, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "calibration.json"
SCHEMA = 1
ANEW = f"remove its {FILE} and recalibrate the model"
"""The way out of a calibration that cannot be gone on from; `recalibrate` alone reads it first."""

OPTIONS, OPEN_ENDED = KINDS = ("options", "open-ended")
METHODS = ("temperature", "platt", "isotonic", "vector")

HISTOGRAM_BINS = 20
"""Of `Calibration.confidence_histogram`."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that confidences come from: of an adapter the base it sits on.

    Attributes:
        name: Hub id, ``atlas``, or a folder's last part; never a local path.
        sha256: Of its files, as `cogcalib.modeling.fingerprint`; None for one on the hub.
        commit: On the hub; None for a local one.
        tokenizer: `tokenizer_hash`.
        adapter: `cogcalib.modeling.adapters.adapter_hash` of the adapter on top; None without one,
            or where it was not hashed.
    """

    name: str
    sha256: str | None
    commit: str | None
    tokenizer: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How questions are put and where their answers are read.

    Attributes:
        kind: One of `KINDS`: one of the options, or generated text.
        confidence: Definition of the confidence of an answer: ``options``, or ``mean`` or ``joint``
            of generated text (`cogcalib.scoring`).
        preset: Prompt preset that words questions; None if prompts are taken as they are.
        options: The options that a prompt is answered with where it brings none, as they follow
            it, such as ``" A"``; None if every question has to bring its own.
        max_new_tokens: Longest generated answer.
        multiline: Whether a generated answer may have several lines; otherwise a line break ends
            it, outside a chat.
    """

    kind: str
    confidence: str
    preset: str | None = None
    options: tuple[str, ...] | None = None
    max_new_tokens: int = 32
    multiline: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        allowed = ("options",) if self.kind == OPTIONS else ("mean", "joint")
        if self.confidence not in allowed:
            raise ValueError(
                f"confidence must be one of {', '.join(allowed)} for kind {self.kind}, "
                f"got {self.confidence!r}"
            )
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.preset is not None:
            check_preset(self.preset)
        texts = [option.strip() for option in self.options or ()]
        if self.options is not None and (len(set(texts)) < max(2, len(texts)) or "" in texts):
            raise ValueError(f"options must be two or more different texts, got {self.options}")


@dataclass(frozen=True, slots=True)
class Halfway:
    """Of a temperature that is the geometric mean of two (`cogcalib.scoring.fit_to_base`): which.

    Attributes:
        in_domain: The one fitted to the labels of the questions that the map names.
        to_base: The one fitted without labels to the base model's confidence, where both models
            answer alike.
        n: Unlabelled questions.
        agreeing: Those of them that both answer alike.
        source: Name of the unlabelled data, without its folder.
        sha256: Of these questions.
        base: The base model.
        base_ece: Its ECE over the options on the labelled questions, a fraction.
    """

    in_domain: float
    to_base: float
    n: int
    agreeing: int
    source: str
    sha256: str
    base: ModelIdentity
    base_ece: float


@dataclass(frozen=True, slots=True)
class FittedMap:
    """A post-hoc map from the model's own confidence to a calibrated one.

    Attributes:
        method: One of `METHODS`.
        parameters: Fitted numbers, by name, as `cogcalib.posthoc` has them.
        n: Questions fitted on.
        source: Name of the data fitted on, without its folder.
        sha256: Of these questions.
        one_token: Whether the options of each of these questions were tokens at one position, all
            in one distribution; None if not known, or if there were none.
        halfway: What a temperature lies between; None of one that was fitted to labels alone.
    """

    method: str
    parameters: Mapping[str, Any]
    n: int
    source: str
    sha256: str
    one_token: bool | None = None
    halfway: Halfway | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")


@dataclass(frozen=True, slots=True)
class AbstentionRule:
    """Answer only from a confidence on, and what that promises.

    With probability 1 - `delta` over the draw of the held-out questions, the error among answered
    questions that are drawn like them is at most `target_error`.

    Attributes:
        target_error: Largest error among answered questions, a fraction in (0, 1).
        delta: Probability that the promise fails, a fraction in (0, 1).
        threshold: Least calibrated confidence to answer from; None if nothing can be promised.
        n: Held-out questions.
        coverage: Share of them that is answered.
        coverage_interval: Its 95 % interval.
        error: Error among the answered ones; None if none is answered.
        reason: Why nothing is promised; empty if something is.
        source: Name of the held-out data, without its folder.
        sha256: Of these questions.
    """

    target_error: float
    delta: float
    threshold: float | None
    n: int
    coverage: float
    coverage_interval: tuple[float, ...]
    error: float | None
    source: str
    sha256: str
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("target_error", "delta"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        named = {"threshold": self.threshold, "coverage": self.coverage, "error": self.error}
        for name, value in named.items():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Confidence against correctness in bins of equal width over [0, 1], closed on the right.

    Attributes:
        count: Answers in each bin.
        confidence: Their mean confidence, a fraction; 0 in an empty bin.
        accuracy: Share of them that is right; 0 in an empty bin.
    """

    count: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.count) == len(self.confidence) == len(self.accuracy) > 0:
            raise ValueError("count, confidence and accuracy must have a value for each bin")


@dataclass(frozen=True, slots=True)
class SplitMetrics:
    """Metrics on one set of questions.

    Attributes:
        split: Name of the set, such as ``calibration``.
        n: Questions.
        sha256: Of these questions.
        raw: Metric -> ``{"value", "low", "high"}``, fractions (NLL in nats), of the model's own
            confidence: ``accuracy``, ``nll`` where it is defined, ``brier``, ``ece``, ``aurc``.
        calibrated: The same behind the map; empty without one.
        raw_bins: Reliability of the model's own confidence; None where it was not kept.
        calibrated_bins: The same behind the map.
        teacher_forced: Whether no answer was generated: each token was read off behind the gold
            ones, and an answer is right if all of them are the most probable.
    """

    split: str
    n: int
    sha256: str
    raw: Mapping[str, Mapping[str, float]]
    calibrated: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    raw_bins: ReliabilityBins | None = None
    calibrated_bins: ReliabilityBins | None = None
    teacher_forced: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """The content of `calibration.json`.

    Attributes:
        model: Whose confidence it is.
        answers: How questions are put and where their answers are read.
        map: The post-hoc map, None if the model's own confidence stands.
        folded_temperature: The temperature that `cogcalib merge` put into the weights, where it is
            part of the model's own confidence; None if none was.
        rules: Abstention rules, the one in force first.
        metrics: Of the model on its calibration split, and where else it was measured.
        trained_on: ``n`` training questions and their ``sha256`` (`seen_questions.set_hash`); the
            names of their ``tasks``, where they have some; of a model that was trained whole the
            name of its ``base``; ``split_off``, how many questions of the training set became the
            calibration split instead, where none was given.
        calibrated_on: ``n`` and ``sha256`` of the questions that the training looked at without
            learning them, that a run chose by, or that a map was fitted to: a guard must not see
            them again.
        confidence_histogram: Shares of calibrated confidences in `HISTOGRAM_BINS` bins of equal
            width on the calibration split: what drift is measured against. Empty if not known.
        method: How it was trained, such as ``label_smoothing, support options, gate nll``.
        versions: Of what took part.
        precision: Number format that the map was fitted and the rules were found in, such as
            ``float32`` or ``4-bit bfloat16``, else that of the training; empty if not known.
    """

    model: ModelIdentity
    answers: AnswerFormat
    map: FittedMap | None = None
    rules: tuple[AbstentionRule, ...] = ()
    metrics: tuple[SplitMetrics, ...] = ()
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    confidence_histogram: tuple[float, ...] = ()
    method: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    folded_temperature: float | None = None
    calibrated_on: Mapping[str, Any] = field(default_factory=dict)
    precision: str = ""

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in self.confidence_histogram):
            raise ValueError("confidence_histogram must hold shares in [0, 1]")
        if self.folded_temperature is not None and not self.folded_temperature > 0:
            raise ValueError(f"folded_temperature must be positive, got {self.folded_temperature}")


def read_calibration(folder: Path) -> Calibration:
    """The calibration that lies beside a model.

    Raises:
        InputError: If there is none, it is of a newer schema, or holds what cannot have been
            written.
    """
    path = folder / FILE
    if not path.is_file():
        if not folder.exists():
            raise InputError(f"there is no folder {folder}")
        raise InputError(
            f"{folder} has no {FILE}: the model was not saved by cogcalib; "
            "`cogcalib recalibrate MODEL --data FILE` measures it and writes one"
        )
    content = read_json(path, dict, ANEW)
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        remedy = "upgrade cogcalib" if newer else ANEW
        raise InputError(f"{path}: schema must be {SCHEMA}, got {schema!r}; {remedy}")
    try:
        _check_finite(content, "")
        return to_record(Calibration, content)
    except ValueError as error:
        raise InputError(f"{path}: {error}; {ANEW}") from error


def _check_finite(value: Any, name: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}")
    for key, each in value.items() if isinstance(value, dict) else ():
        _check_finite(each, f"{name}.{key}".lstrip("."))
    for each in value if isinstance(value, list) else ():
        _check_finite(each, name)


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write `calibration.json` beside a model, atomically, with the versions that run now."""
    content = {**asdict(calibration), "versions": versions()}
    return write_json(folder / FILE, {"schema": SCHEMA, **content})


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of a tokenizer: vocabulary, special tokens, chat template, and how it splits text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {} if backend is None else json.loads(backend.to_str())
    content = [
        sorted(tokenizer.get_vocab().items()),
        sorted((name, str(token)) for name, token in tokenizer.special_tokens_map.items()),
        tokenizer.chat_template,
        parts.get("model", {}).get("merges"),
        [parts.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor")],
    ]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
