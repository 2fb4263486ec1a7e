"""``+daca`` in a run and in a table: a temperature for each task, and a refusal said aloud."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cogcalib import pipeline
from cogcalib.harness.config import Config, Method, parse_config
from cogcalib.harness.reproduce import ExecutionOptions, Preset, Table, make_plan, reproduce
from cogcalib.harness.reproduce.definitions import load_preset
from cogcalib.harness.reproduce.result_files import write_results
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages import check_base, unfit_base
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.records import InputError, Prediction, write_text
from cogcalib.scoring import agreement, fit_to_base

TEXT = """
name: small
methods: [sft+daca, sft+tsdaca, sft+ts]
tasks:
  train: atlas/country
  out_of_domain: [atlas/capital]
  limit: {train: 16, calibration: 24, test: 24}
train: {steps: 4, batch_size: 8}
report: {resamples: 20}
"""
FILES = ("atlas-country.calibration", "atlas-country.test", "atlas-capital.test")


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TEXT)


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.run(config, tmp_path_factory.mktemp("runs"), Console(file=io.StringIO())).path


def made(folder: Path, method: str, name: str) -> list[Prediction]:
    stage = "recalibrate" if "+" in method else "score"
    return read_jsonl(folder / stage / method / "seed-0" / f"{name}.jsonl", Prediction)


def test_every_task_has_a_temperature_of_its_own(finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text("utf-8"))
    fitted = record["posthoc"]["sft+daca"]["0"]
    assert sorted(fitted) == sorted(FILES)
    for name in FILES:
        sft, base = made(finished, "sft", name), made(finished, "base", name)
        assert fitted[name] == {
            "kind": "temperature_scaling",
            **fit_to_base(sft, base).fitted(),
        }
        found = made(finished, "sft+daca", name)
        assert [row.prediction for row in found] == [row.prediction for row in sft]
        assert {tuple(row.confidence) for row in found} == {("options",)}
        assert {row.model for row in found} == {"atlas (sft+daca)"}
    assert len({each["temperature"] for each in fitted.values()}) == 3


def test_halfway_is_the_geometric_mean_but_for_the_task_trained_on(finished: Path) -> None:
    fitted = json.loads((finished / "record.json").read_text("utf-8"))["posthoc"]
    halfway, unlabelled = (fitted[f"sft+{kind}"]["0"] for kind in ("tsdaca", "daca"))
    labelled = fitted["sft+ts"]["0"]["options"]["temperature"]
    assert sorted(halfway) == sorted(FILES)
    for name in FILES:
        own = unlabelled[name]["temperature"]
        expected = labelled if "country" in name else (labelled * own) ** 0.5
        assert halfway[name]["temperature"] == pytest.approx(expected, rel=1e-4)
        sft, found = made(finished, "sft", name), made(finished, "sft+tsdaca", name)
        assert [row.prediction for row in found] == [row.prediction for row in sft]


def test_shuffled_labels_of_a_target_change_no_confidence(
    config: Config, finished: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(finished, root / "small")
    folder = RunFolder(root / "small")
    questions = folder.splits("atlas/capital")
    lines = questions.read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    letters = {row["id"]: row["options"][-1]["letter"] for row in rows}
    for row in rows:
        row["answer"] = letters[row["id"]]
    write_text(questions, "".join(f"{json.dumps(row)}\n" for row in rows))
    for method in ("base", "sft"):
        path = folder.predictions_file(method, 0, "atlas/capital")
        labelled = [
            replace(row, answer=letters[row.id], correct=row.prediction == letters[row.id])
            for row in read_jsonl(path, Prediction)
        ]
        write_jsonl(path, labelled)
    for method in ("sft+daca", "sft+tsdaca"):
        shutil.rmtree(root / "small" / "recalibrate" / method)
        recalibrate(config, folder, method)
        for name in FILES:
            before, after = (made(each, method, name) for each in (finished, folder.path))
            assert [row.confidence for row in before] == [row.confidence for row in after]
            assert [row.option_logprobs for row in before] == [row.option_logprobs for row in after]
        assert made(finished, method, FILES[2]) != made(folder.path, method, FILES[2])


def recalibrate(config: Config, folder: RunFolder, method: str) -> None:
    """Once more, with the questions as they now stand."""
    from cogcalib.harness.progress import StageProgress
    from cogcalib.harness.stages import RunContext, score

    context = RunContext(config, folder, StageProgress(Console(file=io.StringIO()), folder.timings))
    score(context, Method.parse(method), 0, folder.read_splits())


def test_an_uncalibrated_base_is_refused_before_anything_is_trained(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "consistency_interval", lambda *_: (0.0, 0.0))
    with pytest.raises(
        InputError,
        match=r"methods: \+daca cannot be used: the base model is not calibrated: on 12 ",
    ):
        pipeline.run(config, tmp_path, Console(file=io.StringIO()))
    assert not (tmp_path / "small" / "train").exists()


def test_the_base_is_judged_once_by_the_questions_of_all_seeds(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = made(finished, "base", FILES[0])
    other = [*rows[:3], *(replace(row, id=f"{row.id}, too") for row in rows[3:])]
    held = {"seed-0": rows, "seed-4": [*other, *made(finished, "base", FILES[1])]}
    folder = RunFolder(tmp_path)
    for seed in (0, 4):
        folder.predictions("base", seed).mkdir(parents=True)
    judged: list[Prediction] = []
    room = import_module("cogcalib.harness.stages.score")
    monkeypatch.setattr(room, "_flat", lambda _, path: held[path.name])
    monkeypatch.setattr(room, "why_uncalibrated", lambda rows: judged.extend(rows) or "so")
    assert unfit_base(folder, [0]) == "so"
    assert len(judged) == len({row.id for row in judged}) == 2 * len(rows) - 3
    with pytest.raises(FileNotFoundError, match="seed-2"):
        unfit_base(folder, [0, 2])


def test_every_seed_is_asked_before_the_base_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    room = import_module("cogcalib.harness.stages.score")
    asked: list[int] = []
    judged: list[tuple[int, ...]] = []
    monkeypatch.setattr(room, "score", lambda _, method, seed, *__: asked.append(seed))
    monkeypatch.setattr(room, "unfit_base", lambda _, seeds: judged.append(tuple(asked)) or "so")
    context: Any = SimpleNamespace(config=SimpleNamespace(seeds=(3, 5)), folder=None)
    check_base(context, [Method.parse("sft+ts")], {})
    assert judged == []
    with pytest.raises(InputError, match=r"\+tsdaca cannot be used: so"):
        check_base(context, [Method.parse("sft+tsdaca")], {})
    assert judged == [(3, 5)]


def test_open_ended_tasks_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    text = "name: x\nmethods: [sft+daca]\ntasks: {train: atlas/country-open}\n"
    with pytest.raises(InputError, match=r"\+daca needs answer options, atlas/country-open is"):
        pipeline.run(parse_config(text), tmp_path, Console(file=io.StringIO()))
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    path = tmp_path_factory.mktemp("preset") / "small.yaml"
    content = {
        "name": "small",
        "about": "for tests",
        "parameters": 1e6,
        "tokens": 40,
        "rate": {"device": "one core", "flops": 1e10},
        "config": {"model": {"path": "atlas"}, "train": {"steps": 4, "batch_size": 8}},
        "tasks": {
            "country": {
                "tasks": {
                    "train": "atlas/country",
                    "out_of_domain": ["atlas/capital"],
                    "limit": {"train": 16, "calibration": 24, "test": 24},
                }
            }
        },
    }
    write_text(path, json.dumps(content))
    return load_preset(str(path))


@pytest.mark.usefixtures("cells_in_process")
def test_a_table_has_the_row_or_says_why_not(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(name="tiny", title="Tiny", question="?", methods=("sft", "sft+daca"))
    plan = make_plan(table, small, tmp_path / "runs", seeds=[0], tune_seeds=[0])

    def written() -> tuple[set[str], list[str], str]:
        outcome = reproduce(plan, ExecutionOptions(), Console(file=io.StringIO()))
        assert outcome.failures == []
        assert outcome.left_out == []
        page, record_file, *_ = write_results(outcome, tmp_path / "out", "made up", "nll")
        record = json.loads(record_file.read_text("utf-8"))
        rows = {row["row"] for group in record["results"] for row in group["rows"]}
        return rows, record["left_out"], page.read_text("utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(agreement, "consistency_interval", lambda *_: (0.0, 0.0))
        rows, refused, page = written()
        assert rows == {"sft"}
        assert len(refused) == 1
        assert refused[0].startswith(
            "small/country: sft+daca, the base model is not calibrated: on 12 calibration"
        )
        assert f"- {refused[0]}" in page
    rows, refused, page = written()
    assert (rows, refused) == ({"sft", "sft+daca"}, [])
    assert "| SFT + DACA |" in page
    folder = RunFolder(plan.places[0].path)
    assert folder.predictions("base", 0).is_dir()
    assert not folder.predictions("sft+ts", 0).exists()
