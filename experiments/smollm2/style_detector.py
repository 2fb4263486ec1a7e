"""Does plain training make SmolLM2's NLL tell what it knew before? AUROC along the style phase.

What it knew is a probe's finding, made before any training (see known_by_relation.py); its
zero-shot signals are the first point. SmolLM2 is then trained plainly, on questions of all
relations, as experiments/smollm2/smollm2_open.yaml has it, and asked the same questions again.

    python experiments/smollm2/style_detector.py runs/probe-smollm2 --data-dir DATA

Writes docs/results/style-detector.{json,svg}: for each number of steps the AUROC of every detector
against HighlyKnown or MaybeKnown, and the NLL's less that before training, the questions drawn anew
in pairs (fractions). A quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata
from transformers import TrainerCallback

from cogcalib.drawing.canvas import new_figure, styled, to_svg
from cogcalib.harness.report.probe_figures import DETECTOR_LINES
from cogcalib.knowledge import CATEGORIES, Probed, Signals, detect, load_probe, read_signals
from cogcalib.metrics import auroc, paired_bootstrap
from cogcalib.modeling import load_model, lora_config
from cogcalib.modeling.encoding import to_dataset
from cogcalib.provenance import code_state, versions
from cogcalib.records import write_json, write_text
from cogcalib.tasks import draw, load_task
from cogcalib.training import CogCalibConfig, CogCalibTrainer

STEPS = (10, 30, 60, 120)
"""When to look; 30 are a style phase there."""
TRAINED, SCHEDULE, BATCH = 1920, 240, 8
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def found(probe: Probed, before: Sequence[Signals], now: Sequence[Signals]) -> dict[str, Any]:
    """AUROCs, and the NLL's difference to before."""
    known = np.array([row.category in CATEGORIES[:2] for row in probe])
    ranks = [
        (rankdata([-each.nll for each in signals]) / len(signals), known)
        for signals in (now, before)
    ]
    return {
        "auroc": {name: asdict(each) for name, each in detect(now, known).items()},
        "nll_less_before": asdict(paired_bootstrap(auroc, *ranks)),
        "mean_nll": {
            name: float(
                np.mean([each.nll for each, is_it in zip(now, known, strict=True) if is_it is flag])
            )
            for name, flag in (("known", np.True_), ("other", np.False_))
        },
    }


class Looks(TrainerCallback):
    """Looks at the probed questions after some steps, and ends the training after the last."""

    def __init__(self, probe: Probed, trainer_of: Mapping[str, Any]) -> None:
        self.probe, self.trainer_of = probe, trainer_of
        self.before = [row.signals for row in probe]
        self.lines = [{"steps": 0, **found(probe, self.before, self.before)}]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step not in STEPS:
            return
        model = self.trainer_of["trainer"].model
        model.eval()
        now = read_signals(model, self.trainer_of["tokenizer"], self.probe.examples)
        model.train()
        self.lines.append({"steps": state.global_step, **found(self.probe, self.before, now)})
        control.should_training_stop = state.global_step == STEPS[-1]


@styled
def chart(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """AUROC of each detector against the steps, the NLL's with its interval."""
    figure = new_figure(4.6, 3.0)
    axes = figure.subplots()
    steps = [line["steps"] for line in lines]
    for name, (label, colour) in DETECTOR_LINES.items():
        values = [line["auroc"][name]["auroc"] for line in lines]
        axes.plot(steps, values, marker="o", markersize=4, color=colour, label=label)
    low, high = ([line["auroc"]["nll"][end] for line in lines] for end in ("low", "high"))
    axes.fill_between(steps, low, high, color=DETECTOR_LINES["nll"][1], alpha=0.15, linewidth=0)
    axes.set_xlabel("steps of plain fine-tuning, eight questions each")
    axes.set_ylabel("AUROC against prior knowledge (%)")
    ticks = [0.6, 0.7, 0.8, 0.9, 1.0]
    axes.set_yticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    figure.legend(loc="outside upper center", ncols=4, columnspacing=1.0)
    return figure


def drawn(lines: Sequence[Mapping[str, Any]]) -> str:
    """The chart as SVG."""
    first, last = (100 * lines[at]["auroc"]["nll"]["auroc"] for at in (0, 2))
    description = (
        f"The NLL's AUROC grows from {first:.1f} % before training to {last:.1f} % after "
        f"{lines[2]['steps']} steps."
    )
    title = "What SmolLM2's NLL says of what it knew, along the style phase"
    return to_svg(chart(lines), title=title, description=description)


def main() -> None:
    """Train plainly, looking now and then."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("probe", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    probe = load_probe(options.probe)
    model, tokenizer = load_model("smollm2")
    task = load_task("entity_questions", data_dir=options.data_dir)
    train = draw(task.splits["train"], TRAINED, options.seed)
    held: dict[str, Any] = {"tokenizer": tokenizer}
    looks = Looks(probe, held)
    with tempfile.TemporaryDirectory() as folder:
        held["trainer"] = CogCalibTrainer(
            model,
            CogCalibConfig(
                folder,
                gate="none",
                alpha=0.0,
                learning_rate=5e-4,
                max_steps=SCHEDULE,
                per_device_train_batch_size=BATCH,
                warmup_steps=SCHEDULE // 20,
                lr_scheduler_type="cosine",
                seed=options.seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
            ),
            to_dataset(train, tokenizer),
            processing_class=tokenizer,
            peft_config=lora_config(8, 16, 0.0),
            callbacks=[looks],
        )
        held["trainer"].train()
    write_json(
        RESULTS / "style-detector.json",
        {
            "command": f"python experiments/smollm2/style_detector.py {options.probe}",
            "questions": len(probe),
            "seed": options.seed,
            "looks": looks.lines,
            "code": code_state(),
            "versions": versions(),
        },
    )
    write_text(RESULTS / "style-detector.svg", drawn(looks.lines))


if __name__ == "__main__":
    main()
