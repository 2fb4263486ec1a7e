"""The stages of a run, one function each. A finished one finds its artifact and does nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from cogcalib.config import Config, Method
from cogcalib.knowledge import probe, renderings
from cogcalib.modeling import (
    audit_labels,
    encode_batch,
    fingerprint,
    load_model,
    load_tokenizer,
    lora_config,
    shorten_passages,
)
from cogcalib.progress import Advance, StageProgress
from cogcalib.records import (
    Example,
    ProbeRecord,
    RunRecord,
    read_jsonl,
    write_json,
    write_jsonl,
)
from cogcalib.report import write_html
from cogcalib.run_folder import RunFolder, code_state, data_manifest, hardware, versions
from cogcalib.scoring import ScoreSettings, fit_temperatures, summarize
from cogcalib.scoring import score as score_examples
from cogcalib.tasks import Task, check_disjoint, compose, draw, load_task
from cogcalib.training import CogCalibConfig, FitData, fit

Splits = Mapping[str, list[Example]]
TUNING = ("train", "calibration")


@dataclass(frozen=True)
class Work:
    """What every stage needs: the configuration, the folder, somebody to tell."""

    config: Config
    folder: RunFolder
    progress: StageProgress

    def model_name(self, method: Method) -> str:
        """How predictions name the model they come from."""
        return f"{self.config.model.path} ({method.name})"


def load_tasks(config: Config, data_dir: Path | None = None) -> tuple[Task, list[Task]]:
    """The task trained on and those only tested on.

    Args:
        config: Names them.
        data_dir: Folder of local data sets, as in `cogcalib.tasks.load_task`.

    Raises:
        ValueError: If a task does not exist, cannot be trained on, shares questions with
            another's test, or does not fit the methods, the tokenizer or ``train.max_length``.
    """
    preset = config.tasks.prompt
    task = load_task(config.tasks.train, data_dir, prompt=preset)
    missing = [split for split in (*TUNING, "test") if split not in task.splits]
    if missing:
        raise ValueError(f"tasks.train: {task.name} has no split {', '.join(missing)}")
    others = [load_task(name, data_dir, prompt=preset) for name in config.tasks.out_of_domain]
    for other in others:
        for split in TUNING:
            tuned = {f"{task.name} {split}": task.splits[split], other.name: other.splits["test"]}
            check_disjoint(tuned)
    options = task.splits["train"][0].options
    methods = [Method.parse(name) for name in config.methods]
    if options is None and any(method.support == "options" for method in methods):
        raise ValueError(f"methods: -options needs answer options, {task.name} is open-ended")
    tokenizer = load_tokenizer(config.model.path)
    task = _fitted(task, tokenizer, config.train.max_length)
    tests = (replace(other, splits={"test": other.splits["test"]}) for other in others)
    others = [_fitted(other, tokenizer, config.train.max_length) for other in tests]
    for examples in task.splits.values():
        encode_batch(examples, tokenizer, config.train.max_length)
    return task, others


def _fitted(task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Task:
    """The task with passages cut so that its questions fit."""
    splits, shortened = {}, {}
    for split, examples in task.splits.items():
        splits[split], shortened[split] = shorten_passages(examples, tokenizer, max_length)
    return replace(task, splits=splits, shortened=shortened)


def describe_tasks(config: Config, tasks: tuple[Task, list[Task]]) -> dict[str, Any]:
    """What the record says of each task: where it comes from, and what was done to it."""
    tokenizer = load_tokenizer(config.model.path)
    described = {}
    for task in (tasks[0], *tasks[1]):
        audit = audit_labels(task.splits["test"], tokenizer)
        described[task.name] = {
            "version": task.version,
            "source": task.source,
            "licence": task.licence,
            "prompt": config.tasks.prompt,
            "dropped": [asdict(repeats) for repeats in task.dropped],
            "shortened": dict(task.shortened),
            # As JSON has it, so that a resumed run compares equal.
            "labels": None if audit is None else json.loads(json.dumps(asdict(audit))),
        }
    return described


def check_methods(config: Config) -> None:
    """Build every method's training arguments once, before any is needed.

    Raises:
        ValueError: As `CogCalibConfig`.
    """
    for name in config.methods:
        method = Method.parse(name)
        if method.trained != "base":
            CogCalibConfig(config.name, **_trainer_settings(config, method, config.seeds[0]))


def probe_base(work: Work, tasks: tuple[Task, list[Task]]) -> dict[str, ProbeRecord]:
    """Example id -> what the base model knows of it, for every question that may be trained on."""
    limits = work.config.tasks
    pool = tasks[0].splits["train"]
    if limits.unknown_share is None:
        pool = draw(pool, limits.limit.get("train"), limits.seed)
    path = work.folder.probe()
    if path.exists():
        work.progress.skipped("probe")
    else:
        model, tokenizer = load_model(work.config.model.path, dtype=work.config.model.dtype)
        with work.progress.stage("probe: what does the model know?", renderings(pool)) as advance:
            batch_size = work.config.score.batch_size
            records = probe(model, tokenizer, pool, batch_size=batch_size, progress=advance)
        write_jsonl(path, records)
    return {record.id: record for record in read_jsonl(path, ProbeRecord)}


def choose_splits(
    work: Work, tasks: tuple[Task, list[Task]], knowledge: Mapping[str, ProbeRecord]
) -> Splits:
    """Split or out-of-domain task -> its examples; written with a hash of each."""
    task, others = tasks
    wanted = work.config.tasks
    splits = {
        split: draw(task.splits[split], wanted.limit.get(split), wanted.seed)
        for split in ("train", "calibration", "test")
        if split != "train" or wanted.unknown_share is None
    }
    if wanted.unknown_share is not None:
        splits["train"] = compose(
            task.splits["train"],
            {id: record.category for id, record in knowledge.items()},
            size=wanted.limit.get("train", len(task.splits["train"])),
            unknown_share=wanted.unknown_share,
            seed=wanted.seed,
        )
    splits |= {other.name: other.splits["test"] for other in others}
    for name, examples in splits.items():
        write_jsonl(work.folder.splits(name), examples)
    work.folder.claim("splits/manifest.json", data_manifest(splits))
    return splits


def train(
    work: Work, method: Method, seed: int, splits: Splits, knowledge: Mapping[str, ProbeRecord]
) -> None:
    """Fine-tune the model a method needs, unless it is the base model."""
    output = work.folder.train(method.trained, seed)
    label = f"train: {method.trained}, seed {seed}"
    if method.trained == "base":
        return
    if output.exists():
        work.progress.skipped(label)
        return
    config = work.config
    lora = config.model.lora
    dtype = config.model.dtype if lora else "float32"
    model, tokenizer = load_model(config.model.path, dtype=dtype)
    with work.progress.stage(label, config.train.steps) as advance:
        fit(
            model,
            tokenizer,
            FitData(
                train=splits["train"],
                calibration=splits["calibration"],
                known={id: record.category == "known" for id, record in knowledge.items()},
            ),
            output,
            _trainer_settings(config, method, seed),
            peft_config=lora_config(lora.rank, lora.alpha, lora.dropout) if lora else None,
            progress=advance,
        )


def _trainer_settings(config: Config, method: Method, seed: int) -> dict[str, Any]:
    stage = config.train
    settings: dict[str, Any] = {
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch_size,
        "gradient_accumulation_steps": stage.gradient_accumulation,
        "learning_rate": stage.learning_rate,
        "warmup_steps": round(stage.warmup_share * stage.steps),
        "lr_scheduler_type": "cosine",
        "max_length": stage.max_length,
        # The same for uniform regularisation, so that nothing but the gate differs.
        "style_steps": stage.style_steps,
        "threshold_every": stage.threshold_every,
        "gate": method.gate,
        "alpha": stage.alpha_of(method),
        "logging_steps": max(1, stage.steps // 30),
        "save_strategy": "steps" if stage.save_every else "no",
        "save_steps": stage.save_every or stage.steps,
        "seed": seed,
        "bf16": config.model.dtype == "bfloat16",
        "gradient_checkpointing": False,
        "eval_strategy": "no",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    if method.penalty:
        settings |= {
            "penalty": method.penalty,
            "support": method.support,
            "margin": getattr(stage.margin, method.support),
        }
    return settings


def score(work: Work, method: Method, seed: int, splits: Splits) -> None:
    """Predictions of a method on every split but the training one, post-hoc calibrated if asked."""
    output = work.folder.predictions(method.name, seed)
    verb = "recalibrate" if method.posthoc else "score"
    label = f"{verb}: {method.name}, seed {seed}"
    if output.exists():
        work.progress.skipped(label)
        return
    config = work.config
    trained = work.folder.train(method.trained, seed)
    if method.trained == "base":
        model, tokenizer = load_model(config.model.path, dtype=config.model.dtype)
    elif config.model.lora:
        model, tokenizer = load_model(config.model.path, adapter=trained, dtype=config.model.dtype)
    else:
        model, tokenizer = load_model(trained, dtype=config.model.dtype)
    scored = {name: examples for name, examples in splits.items() if name != "train"}
    total = sum(len(examples) for examples in scored.values())
    unfinished = output.with_name(f"{output.name}.partial")
    with work.progress.stage(label, total) as advance:
        temperature: dict[str, float] = {}
        if method.posthoc:
            batches = ScoreSettings(batch_size=config.score.batch_size)
            fitted = fit_temperatures(model, tokenizer, scored["calibration"], batches)
            for name, scaling in fitted.items():
                scaling.save(unfinished / f"temperature-{name}.json")
                temperature[name] = scaling.temperature_
        done = 0
        for examples in scored.values():
            settings = ScoreSettings(
                model_name=work.model_name(method),
                run=config.name,
                batch_size=config.score.batch_size,
                temperature=temperature,
                progress=partial(_after, advance, done),
            )
            predictions = score_examples(model, tokenizer, examples, settings)
            done += len(examples)
            work.folder.write_predictions(unfinished, predictions)
    unfinished.rename(output)


def _after(advance: Advance, before: int, done: int) -> None:
    advance(before + done)


def report(work: Work, splits: Splits) -> list[dict[str, Any]]:
    """Sum up every prediction into `metrics.json`, `record.json` and `report.html`."""
    config, folder = work.config, work.folder
    rows = []
    with work.progress.stage("report", len(config.seeds) * len(config.methods)) as advance:
        for seed in config.seeds:
            for name in config.methods:
                share = _share_known(folder.train(Method.parse(name).trained, seed))
                for predictions in folder.read_predictions(folder.predictions(name, seed)):
                    rows.append(
                        summarize(
                            predictions,
                            method=name,
                            seed=seed,
                            resamples=config.report.resamples,
                            share_known=share,
                        )
                    )
                advance(len({(row["method"], row["seed"]) for row in rows}))
        write_json(folder.path / "metrics.json", rows)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        record = RunRecord(
            config=config.model_dump(mode="json"),
            model=fingerprint(config.model.path),
            data=data_manifest(dict(splits)),
            versions=versions(),
            code={**code_state(), "begun_with": folder.begun_with(code_state())},
            seeds=config.seeds,
            hardware=hardware(device),
            timings=work.progress.timings,
            metrics=rows,
            tasks=json.loads((folder.path / "tasks.json").read_text(encoding="utf-8")),
        )
        write_json(folder.path / "record.json", asdict(record))
        write_html(folder.path)
    return rows


def _share_known(trained: Path) -> float | None:
    """Mean share of training examples under the threshold; None where no gate looked at it."""
    log = trained / "log.jsonl"
    if not log.exists():
        return None
    logged = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    shares = [entry["share_known"] for entry in logged if entry.get("share_known") is not None]
    return sum(shares) / len(shares) if shares else None
