"""Why a temperature fitted in domain carries over, or not: from the predictions of a run folder.

    python experiments/carry_why.py --run runs/reproduce/atlas/country --name atlas \\
        --methods sft sft-early cols-options-gap

Nothing is trained and no model is asked. For each method and task: how sure the answers are; the
temperature that was fitted in domain, the oracle one of the task's own labels and the unlabelled
one of `+daca`, with NLL and ECE under each; how often the method agrees with the base model, and
accuracy and confidence where it does and does not. Means over seeds. The oracle is no method: it
has seen the test.

Writes docs/results/carry-why-NAME.json, .md and .svg.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import log_softmax

from cogcalib.drawing.canvas import FAINT, INK, new_figure, styled, to_svg
from cogcalib.harness.config.methods import label
from cogcalib.harness.report.columns import MISSING
from cogcalib.harness.report.style import colour
from cogcalib.harness.reproduce.markdown import line
from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import read_jsonl
from cogcalib.metrics import expected_calibration_error
from cogcalib.posthoc import TemperatureScaling
from cogcalib.provenance import code_state, versions
from cogcalib.records import Example, InputError, Prediction, write_json, write_text
from cogcalib.scoring import fit_to_base
from cogcalib.scoring.posthoc import option_shares

BASE = "base"
WAYS = {"none": "none", "in_domain": "in domain", "unlabelled": "unlabelled", "oracle": "oracle"}
"""Whose temperature -> how it is called."""
Row = dict[str, Any]


def looked_at(
    made: Sequence[Prediction],
    base: Sequence[Prediction],
    gold: Sequence[int],
    in_domain: float,
) -> Row:
    """One method with one seed on one task.

    Args:
        made: Its predictions, before any temperature.
        base: The base model's of the same questions in the same order.
        gold: Position of the correct option of each.
        in_domain: The temperature fitted on the calibration split.
    """
    shares = option_shares(made, max(len(row.option_logprobs or ()) for row in made))
    alike = np.array([a.prediction == b.prediction for a, b in zip(made, base, strict=True)])
    temperatures = {
        "none": 1.0,
        "in_domain": in_domain,
        "unlabelled": fit_to_base(made, base).temperature_,
        "oracle": TemperatureScaling().fit(shares, gold).temperature_,
    }
    found: Row = {"n": len(made), "temperature": temperatures, "agreement": float(alike.mean())}
    found |= {"nll": {}, "ece": {}, "confidence": {}}
    correct = shares.argmax(axis=1) == np.array(gold)
    for name, temperature in temperatures.items():
        log_p = log_softmax(shares / temperature, axis=1)
        sure = np.exp(log_p.max(axis=1))
        found["nll"][name] = float(-log_p[np.arange(len(gold)), gold].mean())
        found["ece"][name] = expected_calibration_error(np.minimum(sure, 1.0), correct)
        found["confidence"][name] = float(sure.mean())
    found["accuracy"] = float(correct.mean())
    found["spread"] = _spread(shares)
    sure = np.exp(shares.max(axis=1))
    for name, rows in (("agree", alike), ("disagree", ~alike)):
        found[name] = {
            "accuracy": float(correct[rows].mean()) if rows.any() else None,
            "confidence": float(sure[rows].mean()) if rows.any() else None,
        }
    return found


def _spread(shares: NDArray[np.float64]) -> float:
    """Mean over questions of the standard deviation of the options' logits, nats."""
    there = np.where(np.isneginf(shares), np.nan, shares)
    return float(np.nanstd(there, axis=1).mean())


def mean_of(rows: Sequence[Row]) -> Row:
    """Means over seeds, of nested numbers too; None where a seed has none."""
    found: Row = {}
    for key, first in rows[0].items():
        values = [row[key] for row in rows]
        if isinstance(first, Mapping):
            found[key] = mean_of(values)
        else:
            found[key] = None if None in values else fmean(values)
    return found


def read(folder: RunFolder, methods: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """A row for each method and task, in domain first.

    Raises:
        InputError: If a method or the base model has no predictions with a seed.
    """
    examples = {}
    for path in folder.tested():
        examples |= {(e.task, e.split, e.id): e for e in read_jsonl(path, Example)}
    found: dict[tuple[str, str, bool], list[Row]] = {}
    for seed in seeds:
        base = predictions_of(folder, BASE, seed)
        for method in methods:
            made = predictions_of(folder, method, seed)
            ((trained_on, _),) = [key for key in made if key[1] == "calibration"]
            calibration = made[trained_on, "calibration"]
            width = max(len(row.option_logprobs or ()) for row in calibration)
            scaling = TemperatureScaling().fit(
                option_shares(calibration, width), gold_of(calibration, examples)
            )
            for (task, split), rows in made.items():
                if split == "test":
                    theirs = {row.id: row for row in base[task, split]}
                    held = [theirs[row.id] for row in rows]
                    gold = gold_of(rows, examples)
                    row = looked_at(rows, held, gold, scaling.temperature_)
                    found.setdefault((method, task, task == trained_on), []).append(row)
    order = sorted(found, key=lambda key: (methods.index(key[0]), not key[2], key[1]))
    return [
        {"method": key[0], "task": key[1], "in_domain": key[2], **mean_of(found[key])}
        for key in order
    ]


def predictions_of(
    folder: RunFolder, method: str, seed: int
) -> dict[tuple[str, str], list[Prediction]]:
    path = folder.predictions(method, seed)
    if not path.is_dir():
        raise InputError(f"--methods: no predictions of {method} with seed {seed}, {path}")
    return {(rows[0].task, rows[0].split): rows for rows in folder.read_predictions(path)}


def gold_of(
    rows: Sequence[Prediction], examples: Mapping[tuple[str, str, str], Example]
) -> list[int]:
    positions = []
    for row in rows:
        letters = [each.letter for each in examples[row.task, row.split, row.id].options or ()]
        positions.append(letters.index(row.answer))
    return positions


def page(name: str, rows: Sequence[Row]) -> Iterator[str]:
    """Lines: temperatures, what they cost, and agreement with the base model."""
    yield f"# Why a temperature carries over, or not: {name}"
    yield ""
    yield (
        "Means over seeds. Temperatures: fitted on the calibration split of the task trained on "
        "(in domain), to the base model's confidence without labels (unlabelled), to the task's "
        "test labels (oracle: no method). Spread: standard deviation of the options' logits."
    )
    for method in dict.fromkeys(row["method"] for row in rows):
        here = [row for row in rows if row["method"] == method]
        yield from ["", f"## {label(method)}", ""]
        heads = ["task", "n", "accuracy %", "spread", *(f"T {WAYS[k]}" for k in list(WAYS)[1:])]
        heads += [f"NLL {each}" for each in WAYS.values()]
        heads += [f"ECE % {each}" for each in WAYS.values()]
        yield line(heads)
        yield line([":---", *["---:"] * (len(heads) - 1)])
        for row in here:
            cells = [_task(row), f"{row['n']:,.0f}", _percent(row["accuracy"])]
            cells += [f"{row['spread']:.2f}"]
            cells += [f"{row['temperature'][each]:.2f}" for each in list(WAYS)[1:]]
            cells += [f"{row['nll'][each]:.3f}" for each in WAYS]
            yield line([*cells, *(_percent(row["ece"][each]) for each in WAYS)])
        yield ""
        heads = ["task", "answers as the base %"]
        heads += [f"{what} % where they {how}" for how in ("agree", "disagree")
                  for what in ("accuracy", "confidence")]  # fmt: skip
        yield line(heads)
        yield line([":---", *["---:"] * (len(heads) - 1)])
        for row in here:
            cells = [row[how][what] for how in ("agree", "disagree")
                     for what in ("accuracy", "confidence")]  # fmt: skip
            yield line([_task(row), _percent(row["agreement"]), *map(_percent, cells)])


def _task(row: Row) -> str:
    return f"{row['task']}{' (trained on)' * row['in_domain']}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"


@styled
def draw(rows: Sequence[Row]) -> Figure:
    """Temperatures by task, and overconfidence by agreement with the base: a row a method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    most = max(sum(row["method"] == method for row in rows) for method in methods)
    figure = new_figure(9.0, len(methods) * (0.9 + 0.2 * most))
    panels = figure.subplots(len(methods), 2, squeeze=False, sharex="col")
    for (left, right), method in zip(panels, methods, strict=True):
        here = [row for row in rows if row["method"] == method]
        places, shade = range(len(here)), colour(method)
        in_domain = here[0]["temperature"]["in_domain"]
        left.axvline(in_domain, color=FAINT, linewidth=1.2, label="fitted in domain")
        for name, marker in (("oracle", "o"), ("unlabelled", "x")):
            values = [row["temperature"][name] for row in here]
            left.plot(values, places, marker, color=shade, label=name)
        halfway = [math.sqrt(in_domain * row["temperature"]["unlabelled"]) for row in here]
        left.plot(halfway, places, "|", color=INK, markersize=9, label="halfway")
        left.set_xscale("log", base=2)
        left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for name, ink in (("agree", shade), ("disagree", INK)):
            gaps = [_gap(row[name]) for row in here]
            right.plot(gaps, places, "o", color=ink, label=f"where both {name}", markersize=4)
        right.axvline(0, color=FAINT, linewidth=0.8)
        left.set_yticks(places, [_task(row) for row in here])
        right.set_yticks(places, [""] * len(here))
        for axes in (left, right):
            axes.set_ylim(len(here) - 0.5, -0.5)
            axes.tick_params(length=0)
        left.set_title(label(method))
    panels[-1][0].set_xlabel("temperature")
    panels[-1][1].set_xlabel("confidence - accuracy (points)")
    panels[0][0].legend(loc="center right")
    panels[0][1].legend(loc="best")
    return figure


def _gap(found: Mapping[str, float | None]) -> float:
    sure, right = found["confidence"], found["accuracy"]
    return float("nan") if sure is None or right is None else 100 * (sure - right)


def main() -> None:
    """Read, compute, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder of `reproduce`")
    parser.add_argument("--name", required=True, help="of the files written")
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    rows = read(RunFolder(options.run), options.methods, options.seeds)
    stem = f"carry-why-{options.name}"
    record = {"seeds": options.seeds, "rows": rows, "code": code_state(), "versions": versions()}
    write_json(options.docs / "results" / f"{stem}.json", record)
    picture = to_svg(
        draw(rows),
        title=f"Why a temperature carries over: {options.name}",
        description="Temperatures by task beside the one fitted in domain; overconfidence where "
        "the method and its base model agree and disagree.",
    )
    write_text(options.docs / "results" / f"{stem}.svg", picture + "\n")
    lines = [*page(options.name, rows), "", f"![{stem}]({stem}.svg)", ""]
    write_text(options.docs / "results" / f"{stem}.md", "\n".join(lines))


if __name__ == "__main__":
    main()
