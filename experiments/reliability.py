"""The README's figure: reliability of the demo's SFT and of what its report singles out.

    cogcalib demo                             # leaves runs/demo
    python experiments/reliability.py runs/demo

writes docs/results/demo-reliability.{json,svg}: confidence over the options, test split of the task
trained on, first seed. The record has the bins, so that the figure can be drawn without the run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cogcalib.drawing.canvas import FAINT, INK, new_figure, percent_axis, styled, to_svg
from cogcalib.harness.config.methods import label
from cogcalib.harness.report import load_run
from cogcalib.harness.report.headline import headline
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.singled_out import single_out
from cogcalib.harness.report.style import colour
from cogcalib.harness.report.summary import group_rows
from cogcalib.metrics import expected_calibration_error, reliability_curve
from cogcalib.provenance import code_state
from cogcalib.records import write_text

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
DEFINITION, BINS = "options", 15
FEW = 10
"""Bins with fewer answers are left out: their accuracy is mostly chance."""


def measure(run: Run) -> dict[str, Any]:
    """Bins of both methods; the headline beside them."""
    task = group_rows(run.rows, in_domain=run.trained_on)[0]
    best = single_out(run, task).method
    if best is None:
        raise ValueError(f"{run.path} singles out no method")
    methods = []
    for name in ("sft", best):
        rows = run.predictions(name, task[name].seeds[0] or 0, task.task, task.split)
        confidence = [row.confidence[DEFINITION] for row in rows]
        correct = [row.correct for row in rows]
        curve = reliability_curve(confidence, correct, bins=BINS)
        bins = [each.tolist() for each in (curve.confidence, curve.accuracy, curve.count)]
        methods.append(
            {
                "method": name,
                "n": len(rows),
                "accuracy": sum(correct) / len(correct),
                "ece": expected_calibration_error(confidence, correct, bins=BINS),
                "bins": [
                    {"confidence": round(c, 3), "accuracy": round(a, 3), "count": int(k)}
                    for c, a, k in zip(*bins, strict=True)
                    if k >= FEW
                ],
            }
        )
    return {
        "command": "python experiments/reliability.py runs/demo",
        "task": task.task,
        "definition": DEFINITION,
        "methods": methods,
        "headline": headline(run, task),
        "commit": run.record["code"]["commit"],
        "read_by": code_state()["commit"],
    }


@styled
def draw(record: dict[str, Any]) -> Figure:
    """Two panels on the same axes: accuracy against confidence, a dot for each bin."""
    figure = new_figure(6.6, 3.3)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, each in zip(panels, record["methods"], strict=True):
        tint = colour(each["method"])
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        for row in each["bins"]:
            where, accuracy = row["confidence"], row["accuracy"]
            axes.plot([where, where], [where, accuracy], color=tint, alpha=0.35, linewidth=2)
            # A line without length and with round ends is a dot, in a tenth of a marker's bytes.
            axes.plot([where, where], [accuracy, accuracy], color=tint, solid_capstyle="round",
                      linewidth=3 + 0.8 * row["count"] ** 0.5, clip_on=False)  # fmt: skip
        percent_axis(axes, x=True, y=True)
        axes.set_title(label(each["method"]))
        axes.set_xlabel("confidence %")
        axes.text(0.04, 0.93, f"ECE {100 * each['ece']:.1f} %", color=INK, fontsize=11)
        axes.text(0.04, 0.86, f"accuracy {100 * each['accuracy']:.1f} %", color=INK)
    panels[0].set_ylabel("accuracy %")
    return figure


def main() -> None:
    """Write the record and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    record = measure(load_run(parser.parse_args().run))
    write_text(RESULTS / "demo-reliability.json", json.dumps(record, ensure_ascii=False) + "\n")
    plain, ours = record["methods"]
    text = to_svg(
        draw(record),
        title="Reliability of SFT and of the method singled out",
        description=f"Accuracy against confidence. {label(plain['method'])} lies far below the "
        f"diagonal, ECE {100 * plain['ece']:.1f} %; {label(ours['method'])} lies along it, ECE "
        f"{100 * ours['ece']:.1f} %.",
    )
    write_text(RESULTS / "demo-reliability.svg", text)


if __name__ == "__main__":
    main()
