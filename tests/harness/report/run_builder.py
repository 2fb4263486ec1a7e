"""Builds a synthetic run folder with known miscalibration, as a finished run would leave it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from cogcalib.jsonl import write_jsonl
from cogcalib.records import (
    Example,
    Option,
    Prediction,
    ProbeRecord,
    Threshold,
    write_json,
    write_text,
)
from cogcalib.scoring import summarize

COUNTRY, CAPITAL = "atlas/country", "atlas/capital"
SIZES = {CAPITAL: 150, COUNTRY: 1000}
"""Test questions per task; out-of-domain first, as a run that sorts its files would list them."""
SHARPNESS = {
    "base": (0.9, 1.4),
    "sft": (3.2, 1.0),
    "sft+ts": (1.25, 1.0),
    "ls": (0.75, 1.0),
    "cols": (1.15, 1.02),
    "combls": (1.4, 1.0),
    "coecp": (1.7, 1.01),
    "cols-random": (1.9, 1.0),
}
"""Method -> (factor on the log-odds of a calibrated model: 1 is calibrated, noise of knowledge)."""

LETTERS = "ABCD"


def examples(task: str) -> list[Example]:
    """Questions of a task; the right letter cycles."""
    return [
        Example(
            id=f"{task}-{i}",
            task=task,
            split="test",
            prompt=f"In which country is city {i}?",
            options=tuple(Option(letter, f"Land {letter}{i % 40}") for letter in LETTERS),
            answer=LETTERS[i % 4],
        )
        for i in range(SIZES[task])
    ]


def predictions(method: str, seed: int, task: str, run: str) -> list[Prediction]:
    """Answers whose chance of being right is known, at a confidence sharpened by the method."""
    sharpness, noise = SHARPNESS[method]
    generator = np.random.default_rng([seed, SIZES[task]])
    skill = generator.normal(1.6 if task == COUNTRY else 0.4, 1.3 * noise, SIZES[task])
    chance = 0.25 + 0.75 / (1 + np.exp(-skill))
    correct = generator.random(SIZES[task]) < chance
    odds = np.log(chance / (1 - chance))
    confidence = 1 / (1 + np.exp(-sharpness * odds))
    rows = []
    for example, right, sure in zip(examples(task), correct, confidence, strict=True):
        letter = example.answer if right else LETTERS[(LETTERS.index(example.answer) + 1) % 4]
        rest = (1 - sure) / 3
        logprobs = tuple(math.log(sure if each == letter else rest) for each in LETTERS)
        rows.append(
            Prediction(
                id=example.id,
                task=task,
                split="test",
                answer=example.answer,
                prediction=letter,
                correct=bool(right),
                nll=-logprobs[LETTERS.index(example.answer)],
                confidence={"vocab": float(sure), "options": float(min(1.0, sure * 1.01))},
                option_logprobs=logprobs,
                model="atlas-llama",
                run=run,
            )
        )
    return rows


def build_run(
    path: Path, *, methods: tuple[str, ...] = tuple(SHARPNESS), seeds: tuple[int, ...] = (0, 1)
) -> Path:
    """Write a whole run folder and return it."""
    rows = []
    for task in SIZES:
        write_jsonl(path / "splits" / f"{task.replace('/', '-')}.jsonl", examples(task))
        for method in methods:
            for seed in seeds:
                scored = predictions(method, seed, task, path.name)
                gated = method.startswith("co")
                known = (0.43 + 0.01 * seed, 0.97) if gated else (None, None)
                rows.append(summarize(scored, method=method, seed=seed, resamples=50, known=known))
                if task == COUNTRY:
                    rows.append(rows[-1] | {"split": "calibration"})
                stage = "recalibrate" if "+" in method else "score"
                file = f"{task.replace('/', '-')}.test.jsonl"
                write_jsonl(path / stage / method / f"seed-{seed}" / file, scored)
    for method in methods:
        if method != "base" and "+" not in method:
            for seed in seeds:
                _training(path / "train" / method / f"seed-{seed}", method, seed)
    write_json(path / "metrics.json", rows)
    write_jsonl(path / "probe" / "train.jsonl", _probe())
    _records(path, rows, seeds)
    return path


def _training(folder: Path, method: str, seed: int) -> None:
    generator = np.random.default_rng([seed, len(method)])
    gated = method.startswith("co")
    log: list[dict[str, Any]] = []
    for step in range(10, 401, 10):
        ce = 0.35 + 1.2 * math.exp(-step / 60) + 0.03 * generator.normal()
        row: dict[str, Any] = {"step": step, "epoch": step / 100, "loss": ce + 0.2, "ce": ce}
        if gated:
            known = 0.4 + 0.3 * (1 - math.exp(-step / 100)) + 0.02 * generator.normal()
            row |= {"penalty": 1.5 + step / 400, "share_known": known}
        log.append(row)
    write_jsonl(folder / "log.jsonl", [*log, {"step": 400, "train_loss": 0.6}])
    if gated:
        values = [math.inf, *(0.9 - 0.1 * i + 0.03 * generator.normal() for i in range(7))]
        history = [
            Threshold(value, 0.0 if math.isinf(value) else 0.6 + 0.03 * i, 0.85, 180, 120, 50 * i)
            for i, value in enumerate(values, start=1)
        ]
        write_json(
            folder / "thresholds.json",
            [{name: getattr(t, name) for name in Threshold.__slots__} for t in history],
        )


def _probe() -> list[ProbeRecord]:
    generator = np.random.default_rng(3)
    settings = {"known": (700, 1.0, 0.85), "doubtful": (500, 0.5, 0.4), "unknown": (300, 0.0, 0.1)}
    return [
        ProbeRecord(
            f"{name}-{i}",
            name,
            share,
            p_gold,
            float(-math.log(p_gold) + generator.exponential(0.4)),
        )
        for name, (count, share, p_gold) in settings.items()
        for i in range(count)
    ]


def _records(path: Path, rows: list[dict[str, Any]], seeds: tuple[int, ...]) -> None:
    data = {
        name: {"n": n, "sha256": f"{n:064x}"}
        for name, n in {"train": 1500, "calibration": 300, COUNTRY: 1000, CAPITAL: 150}.items()
    }
    config = {"name": path.name, "tasks": {"train": COUNTRY, "out_of_domain": [CAPITAL]}}
    write_json(path / "splits" / "manifest.json", data)
    lines = [
        f"name: {path.name}",
        "tasks:",
        f"  train: {COUNTRY}",
        "train:",
        "  alpha: 0.1",
        "  steps: 400",
    ]
    write_text(path / "config.yaml", "\n".join(lines) + "\n")
    write_json(
        path / "record.json",
        {
            "config": config,
            "data": data,
            "versions": {"cogcalib": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
            "code": {"commit": "0123456789abcdef", "dirty": True},
            "seeds": list(seeds),
            "hardware": {"processor": "x86_64", "cores": 2, "accelerator": None},
            "timings": {"train": 312.4, "score": 41.25},
            "metrics": rows,
        },
    )
