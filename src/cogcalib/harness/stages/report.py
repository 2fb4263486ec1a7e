"""Metrics with intervals, record and page of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cogcalib.harness.config import Method
from cogcalib.harness.report import write_html
from cogcalib.harness.report.run_results import known_shares
from cogcalib.harness.run_folder import read_posthoc_map
from cogcalib.harness.stages.context import THRESHOLD, RunContext, Splits, of_seed
from cogcalib.jsonl import collector_paused
from cogcalib.modeling import fingerprint
from cogcalib.provenance import code_state, data_manifest, hardware, versions
from cogcalib.records import Example, write_json
from cogcalib.scoring import summarize


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything a result depends on. Equal records on one machine mean equal results.

    Attributes:
        config: The validated configuration.
        model: ``{"path": as configured, "sha256": of its files}``, or a hub commit in its place.
        data: Split -> ``{"n": rows, "sha256": hash of the rows}``.
        versions: Package -> version, of whatever takes part in a result.
        code: ``{"commit": hash or None, "dirty": bool or None}`` of a git checkout.
        seeds: Seeds of the run.
        hardware: Processor, cores, memory, accelerator.
        timings: Stage -> wall seconds.
        metrics: The rows of ``metrics.json``.
        posthoc: Method -> seed -> confidence definition -> what was fitted on the calibration split
            for it, as `cogcalib.posthoc` saves it; of what is held against the base model, task and
            split instead of the definition. Empty without post-hoc calibrated methods.
        trained_on: The task trained on, by its own name; empty in records that were made before it
            was kept.
        tasks: Task, by its own name and the one trained on first, -> its version, source, repeats
            dropped, passages shortened and the audit of its option labels' tokens.
    """

    config: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    code: Mapping[str, Any]
    seeds: Sequence[int]
    hardware: Mapping[str, Any]
    timings: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = field(default_factory=list)
    posthoc: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str = ""
    tasks: Mapping[str, Any] = field(default_factory=dict)


def report(context: RunContext, splits: Splits) -> list[dict[str, Any]]:
    """Sum up every prediction into `metrics.json`, `record.json` and `report.html`."""
    config, folder = context.config, context.folder
    rows, begun = [], time.perf_counter()
    # The collector would search all that training left behind, and no cycle is made here.
    with (
        collector_paused(),
        context.progress.stage("report", len(config.seeds) * len(config.methods)) as advance,
    ):
        for seed in config.seeds:
            for name in config.methods:
                known = known_shares(folder.log(Method.parse(name).trained, seed))
                for predictions in folder.read_predictions(folder.predictions(name, seed)):
                    rows.append(
                        summarize(
                            predictions,
                            method=name,
                            seed=seed,
                            resamples=config.report.resamples,
                            known=known,
                        )
                    )
                advance(len({(row["method"], row["seed"]) for row in rows}))
        write_json(folder.metrics, rows)
        context.progress.took("report: metrics", time.perf_counter() - begun)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        tasks = folder.read_tasks()
        record = RunRecord(
            config=config.model_dump(mode="json"),
            model=fingerprint(config.model.path, config.model.revision),
            data=data_manifest({**splits, **_halves(splits, config.seeds)}),
            versions=versions(),
            code={**code_state(), "begun_with": folder.begun_with(code_state())},
            seeds=config.seeds,
            hardware=hardware(device),
            timings=dict(context.progress.timings),
            metrics=rows,
            posthoc={
                name: {str(seed): _fitted(folder.posthoc_maps(name, seed)) for seed in config.seeds}
                for name in config.methods
                if Method.parse(name).posthoc
            },
            trained_on=next(iter(tasks)),
            tasks=tasks,
        )
        write_json(folder.record, asdict(record))
        begun = time.perf_counter()
        write_html(folder)
        context.progress.took("report: page", time.perf_counter() - begun)
    # The page itself cannot say how long it took.
    write_json(folder.record, asdict(replace(record, timings=context.progress.timings)))
    return rows


def _fitted(maps: Sequence[Path]) -> dict[str, Any]:
    """Confidence definition, or what else a file is named for, -> what was fitted for it."""
    return {path.stem.partition("-")[2]: read_posthoc_map(path) for path in maps}


def _halves(splits: Splits, seeds: Sequence[int]) -> dict[str, list[Example]]:
    """The calibration questions that each seed trained with; it was judged on the others."""
    return {
        f"calibration, {THRESHOLD}, seed {seed}": of_seed(splits, seed)[THRESHOLD] for seed in seeds
    }
