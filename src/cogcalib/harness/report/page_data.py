"""Data of a page that its script looks up: questions, answers of each method, confidences."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.bin_charts import bins_of
from cogcalib.harness.report.columns import percent
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.metrics import reliability_curve
from cogcalib.records import Example, Prediction
from cogcalib.suggest import cut

MOST_NUMBERS = 120_000
"""Confidences kept in a page; of more questions an even selection is kept."""
MOST_TEXT = 400_000
"""Characters of questions and answers kept."""
LONGEST = 300
"""Characters of a question shown."""

Answers = Mapping[str, Sequence[Prediction]]


def definitions_of(answers: Answers, task: TaskSummary) -> list[str]:
    """The task's definitions that all of the predictions have; metrics may be of more."""
    return [
        name
        for name in task.definitions
        if all(name in rows[0].confidence for rows in answers.values())
    ]


def page_data(answers: Answers, examples: Mapping[str, Example], task: TaskSummary) -> Markup:
    """The data as JSON that may stand in an HTML script element; empty without answers.

    Args:
        answers: Method -> its predictions on the task's questions.
        examples: Id -> question; one that is missing is shown by its id.
        task: Its definitions, bins and binning.
    """
    if not answers:
        return Markup("")
    definitions = definitions_of(answers, task)
    by_id = {name: {row.id: row for row in rows} for name, rows in answers.items()}
    every = sorted(next(iter(by_id.values())))
    kept = _kept(every, examples, len(answers) * max(1, len(definitions)))
    content = {
        "definitions": definitions,
        "total": len(every),
        "questions": [_question(each, examples.get(each), by_id) for each in kept],
        "methods": [
            _method(name, by_id[name], kept, examples, task, definitions) for name in by_id
        ],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    # Nothing in a JSON text but its strings can hold these, and there an escape is the same.
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def risk_curves(
    answers: Answers, task: TaskSummary, points: int = 10
) -> dict[str, dict[str, list[tuple[float, float, float | None]]]]:
    """Definition -> method -> (share answered, error, least confidence answered), fractions."""
    from cogcalib.metrics import risk_coverage_curve

    shares = [k / points for k in range(1, points + 1)]
    found: dict[str, dict[str, list[tuple[float, float, float | None]]]] = {}
    for definition in definitions_of(answers, task):
        for method, rows in answers.items():
            confidence = np.array([row.confidence[definition] for row in rows])
            errors = risk_coverage_curve(confidence, [row.correct for row in rows], shares)
            ranked = -np.sort(-confidence)
            least = [float(ranked[max(1, round(s * len(ranked))) - 1]) for s in shares]
            curve = list(zip(shares, errors, least, strict=True))
            found.setdefault(definition, {})[method] = [*curve]
    return found


def speller(example: Example | None) -> Callable[[str], str]:
    """Answers as people read them: ``B. France`` for ``B``."""
    options = (example.options if example else None) or ()
    # Of a row as written the letter is the text.
    named = {o.letter: f"{o.letter}. {o.text}" for o in options if o.letter != o.text}
    return lambda answer: named.get(answer, answer)


def _kept(ids: Sequence[str], examples: Mapping[str, Example], numbers: int) -> list[str]:
    """An even selection of the questions that fits a page."""
    lengths = [min(LONGEST, len(examples[i].prompt)) + 40 for i in ids[:200] if i in examples]
    length = sum(lengths) / len(lengths) if lengths else 40
    most = max(1, min(len(ids), MOST_NUMBERS // numbers, int(MOST_TEXT / length)))
    return [ids[int(k)] for k in np.linspace(0, len(ids) - 1, most).round()]


def _question(
    name: str, example: Example | None, by_id: Mapping[str, Mapping[str, Prediction]]
) -> list[str]:
    if example is None:
        gold = next((rows[name].answer for rows in by_id.values() if name in rows), "")
        return [name, gold]
    return [cut(each, LONGEST) for each in (example.prompt, speller(example)(example.answer))]


def _method(
    name: str,
    rows: Mapping[str, Prediction],
    kept: Sequence[str],
    examples: Mapping[str, Example],
    task: TaskSummary,
    definitions: Sequence[str],
) -> dict[str, Any]:
    """Answers, whether they are right, and confidences and bins by definition, by question."""
    found = [rows.get(each) for each in kept]
    confidence, bins = [], []
    for definition in definitions:
        every = [row.confidence[definition] for row in rows.values()]
        right = [row.correct for row in rows.values()]
        edges = reliability_curve(every, right, bins=task.bins, binning=task.binning).edges
        own = [0.0 if row is None else row.confidence[definition] for row in found]
        confidence.append([float(percent(each)) for each in own])
        bins.append(bins_of(own, edges).tolist())
    return {
        "name": label(name),
        "answers": [
            None if row is None else cut(speller(examples.get(row.id))(row.prediction), LONGEST)
            for row in found
        ],
        "right": "".join("-" if row is None else str(int(row.correct)) for row in found),
        "confidence": confidence,
        "bins": bins,
    }
