"""The whole flow on the embedded model, small: what it leaves behind, and resuming it."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console
from small_world import small_world as small_world

from cogcalib import cli, pipeline
from cogcalib.harness import stages
from cogcalib.harness.config import Config, parse_config
from cogcalib.jsonl import read_jsonl
from cogcalib.provenance import data_manifest
from cogcalib.records import Example, InputError, Prediction, ProbeRecord
from cogcalib.scoring.prediction_files import SplitQuestions
from cogcalib.tasks import catalog
from cogcalib.tasks.catalog import definitions

TEXT = """
name: small
seeds: [3]
methods: [base, sft, sft+ts, ls, cols-options, coecp-oracle]
tasks:
  train: atlas/country
  out_of_domain: [atlas/capital]
  limit: {train: 48, calibration: 40, test: 40}
train: {steps: 6, batch_size: 8, style_steps: 2, threshold_every: 2}
report: {resamples: 50}
"""


def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TEXT)


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.run(config, tmp_path_factory.mktemp("runs"), quiet()).path


def test_every_stage_leaves_its_artifact(finished: Path, config: Config) -> None:
    splits = {path.stem for path in (finished / "splits").glob("*.jsonl")}
    assert splits == {"train", "calibration", "test", "atlas-capital"}
    manifest = json.loads((finished / "splits" / "manifest.json").read_text())
    assert manifest["train"]["n"] == 48
    probe = read_jsonl(finished / "probe" / "train.jsonl", ProbeRecord)
    assert len(probe) == 48
    assert {record.source for record in probe} == {"rotations"}
    for method in ("sft", "ls", "cols-options", "coecp-oracle"):
        assert (finished / "train" / method / "seed-3" / "adapter_model.safetensors").is_file()
    thresholds = json.loads((finished / "train/cols-options/seed-3/thresholds.json").read_text())
    assert [t["step"] for t in thresholds] == [2, 4]
    temperature = finished / "recalibrate" / "sft+ts" / "seed-3" / "temperature-vocab.json"
    assert json.loads(temperature.read_text())["temperature"] > 0
    assert "</html>" in (finished / "report.html").read_text()
    kept = parse_config((finished / "config.yaml").read_text())
    assert (kept, "") == stages.settled(config)


def test_metrics_have_a_row_per_method_task_and_split(finished: Path) -> None:
    rows = json.loads((finished / "metrics.json").read_text())
    methods = {"base", "sft", "sft+ts", "ls", "cols-options", "coecp-oracle"}
    places = {
        ("atlas/country", "calibration"),
        ("atlas/country", "test"),
        ("atlas/capital", "test"),
    }
    assert {(r["method"], r["task"], r["split"]) for r in rows} == {
        (method, *place) for method in methods for place in places
    }
    for row in rows:
        assert row["seed"] == 3
        assert 0 <= row["accuracy"] <= 1
        assert set(row["ece"]) == {"vocab", "options", "surface"}
    accuracy = {r["method"]: r["accuracy"] for r in rows if r["split"] == "calibration"}
    assert accuracy["sft"] == accuracy["sft+ts"]


def test_what_steers_a_training_judges_nothing(finished: Path, config: Config) -> None:
    """A seed trains with one half of the calibration split, and chooses and fits on the other."""
    split = read_jsonl(finished / "splits" / "calibration.jsonl", Example)
    halves = stages.of_seed({"calibration": split}, 3)
    assert [len(halves[name]) for name in ("threshold", "calibration")] == [20, 20]
    data = json.loads((finished / "record.json").read_text())["data"]
    steered = data_manifest({"x": halves["threshold"]})["x"]
    assert data["calibration, threshold, seed 3"] == steered
    trained = finished / "train" / "cols-options" / "seed-3"
    assert json.loads((trained / "thresholds.json").read_text())[0]["n_known"] <= 20
    seen = (trained / "calibrated_on.txt").read_text().split()
    ids = {name: {example.id for example in halves[name]} for name in ("threshold", "calibration")}
    assert ids["threshold"].isdisjoint(ids["calibration"])
    assert len(seen) == 40  # a guard must not see what a method was chosen by, either
    for method in ("score/sft", "recalibrate/sft+ts", "score/base"):
        rows = read_jsonl(finished / method / "seed-3/atlas-country.calibration.jsonl", Prediction)
        assert {row.id for row in rows} == ids["calibration"]
    other = stages.of_seed({"calibration": split}, 4)
    assert {example.id for example in other["threshold"]} != ids["threshold"]


def test_a_question_of_several_rows_is_in_one_half(finished: Path) -> None:
    split = read_jsonl(finished / "splits" / "calibration.jsonl", Example)
    twice = [*split, *(replace(e, id=f"{e.id}-2", prompt=f" {e.prompt}\n") for e in split)]
    halves = stages.of_seed({"calibration": twice}, 3)
    asked = [{e.asked for e in halves[name]} for name in ("threshold", "calibration")]
    assert [len(each) for each in asked] == [20, 20]
    assert asked[0].isdisjoint(asked[1])
    alone = stages.of_seed({"calibration": split}, 3)
    assert halves["threshold"][:20] == alone["threshold"]
    judged = SplitQuestions.of(twice).for_choice(3)  # as files of predictions are checked
    assert set(judged.answers) == {e.id for e in halves["calibration"]}


def test_record_names_what_the_result_depends_on(finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text())
    assert record["config"]["train"]["steps"] == 6
    held = "calibration, threshold, seed 3"
    assert set(record["data"]) == {"train", "calibration", held, "test", "atlas/capital"}
    assert {"torch", "trl", "cogcalib"} <= record["versions"].keys()
    assert record["code"].keys() == {"commit", "dirty", "begun_with"}
    assert record["code"]["begun_with"].keys() == {"commit", "dirty"}
    assert record["seeds"] == [3]
    asked = record["tasks"]["atlas/country"]
    assert (asked["prompt"], asked["version"], asked["dropped"]) == ("cogcalib", 1, [])
    assert asked["shortened"] == {"train": 0, "calibration": 0, "test": 0}
    assert [label["tokens"] for label in asked["labels"]["labels"]] == [
        [f"\u0120{c}"] for c in "ABCD"
    ]
    assert asked["labels"]["single"]
    assert "train: sft, seed 3" in record["timings"]
    stages_timed = {name.partition(":")[0] for name in record["timings"]}
    assert stages_timed == {"prepare", "probe", "train", "score", "report"}  # sft+ts within sft
    assert {"report: metrics", "report: page"} <= record["timings"].keys()
    assert "report: metrics" in (finished / "report.html").read_text()


def test_a_finished_stage_is_not_run_again(finished: Path, config: Config) -> None:
    before = {
        path: path.stat().st_mtime_ns
        for stage in ("probe", "train", "score", "recalibrate")
        for path in (finished / stage).rglob("*")
    }
    pipeline.run(config, finished.parent, quiet(), resume=True)
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time


def test_an_interrupted_run_ends_like_one_that_was_not(
    finished: Path, config: Config, tmp_path: Path
) -> None:
    copy = tmp_path / finished.name
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "train" / "cols-options")
    shutil.rmtree(copy / "score" / "cols-options")
    (copy / "metrics.json").unlink()
    (copy / "train" / "cols-options" / "seed-3.partial").mkdir(parents=True)
    pipeline.run(config, tmp_path, quiet(), resume=True)
    for relative in (
        "train/cols-options/seed-3/adapter_model.safetensors",
        "score/cols-options/seed-3/atlas-country.test.jsonl",
        "metrics.json",
    ):
        assert (copy / relative).read_bytes() == (finished / relative).read_bytes()


def test_predictions_are_of_the_questions_in_the_splits(finished: Path) -> None:
    test = read_jsonl(finished / "splits" / "test.jsonl", Example)
    file = finished / "score" / "sft" / "seed-3" / "atlas-country.test.jsonl"
    predictions = read_jsonl(file, Prediction)
    assert [p.id for p in predictions] == [e.id for e in test]
    assert [p.answer for p in predictions] == [e.answer for e in test]


def test_a_share_of_unknown_examples_can_be_asked_for(tmp_path: Path) -> None:
    config = parse_config(
        TEXT,
        ["methods=[base]", "tasks.unknown_share=0.75", "tasks.limit.train=40", "name=ratio"],
    )
    folder = pipeline.run(config, tmp_path, quiet()).path
    categories = {
        row["id"]: row["category"]
        for row in map(json.loads, (folder / "probe" / "train.jsonl").read_text().splitlines())
    }
    train = read_jsonl(folder / "splits" / "train.jsonl", Example)
    kinds = [categories[example.id] for example in train]
    assert kinds.count("unknown") == 30
    assert kinds.count("known") == 10


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("tasks.train=atlas/river", "there is no task 'atlas/river'"),
        ("tasks.train=atlas/continent", "has no split train, calibration"),
        ("tasks.limit.train=5000", "limit for train must be at most 240"),
        ("train.max_length=10", "max_length is 10"),
        ("model.path=no/such/folder", "no/such/folder"),
    ],
)
def test_bad_input_is_told_before_training(tmp_path: Path, override: str, what: str) -> None:
    config = parse_config(TEXT, [override, "methods=[sft]"])
    with pytest.raises(InputError, match=what):
        pipeline.run(config, tmp_path, quiet())
    assert not list(tmp_path.glob("small/train/*"))
    if "limit" not in override:
        assert not (tmp_path / "small").exists()


def test_options_are_refused_where_there_are_none(tmp_path: Path) -> None:
    overrides = ["tasks.train=atlas/country-open", "methods=[cols-options]"]
    with pytest.raises(InputError, match="atlas/country-open is open-ended"):
        pipeline.run(parse_config(TEXT, overrides), tmp_path, quiet())


def test_resuming_with_other_data_is_refused(
    finished: Path, config: Config, tmp_path: Path
) -> None:
    copy = tmp_path / finished.name
    shutil.copytree(finished, copy)
    manifest = copy / "splits" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"n": 48', '"n": 47'))
    with pytest.raises(InputError, match="other data or another model"):
        pipeline.run(config, tmp_path, quiet(), resume=True)


def test_going_on_with_other_code_is_said_and_recorded(finished: Path, config: Config) -> None:
    begun = finished / "code.json"
    before = begun.read_text()
    begun.write_text('{"commit": "another", "dirty": false}')
    console = Console(record=True, file=io.StringIO())
    pipeline.run(config, finished.parent, console, resume=True)
    assert "begun with other code" in console.export_text()
    record = json.loads((finished / "record.json").read_text())
    assert record["code"]["begun_with"]["commit"] == "another"
    begun.write_text(before)


def test_what_a_trainer_would_refuse_is_told_before_the_first_stage(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_bf16(*_: object, **settings: object) -> None:
        if settings["gate"] == "oracle":
            raise ValueError("bf16 is not supported by this device")

    monkeypatch.setattr(import_module("cogcalib.harness.stages.train"), "CogCalibConfig", no_bf16)
    with pytest.raises(InputError, match="bf16"):
        pipeline.run(config, tmp_path, quiet())
    assert not list(tmp_path.iterdir())


def test_full_fine_tuning_and_open_ended_answers(tmp_path: Path) -> None:
    config = parse_config(
        TEXT,
        [
            "name=open",
            "model.lora=null",
            "methods=[sft+ts, cols]",
            "tasks.train=atlas/country-open",
            "tasks.out_of_domain=[]",
        ],
    )
    folder = pipeline.run(config, tmp_path, quiet()).path
    assert (folder / "train" / "cols" / "seed-3" / "model.safetensors").is_file()
    rows = json.loads((folder / "metrics.json").read_text())
    assert {row["method"] for row in rows} == {"sft+ts", "cols"}
    assert all(set(row["ece"]) == {"mean", "joint"} for row in rows)


def write_openbookqa(folder: Path, rows: int, word: str = "stone") -> None:
    """A tiny copy of the data set in the columns and files of its page on the hub."""
    (folder / "openbookqa").mkdir(parents=True)
    for part in ("train", "validation", "test"):
        lines = [
            {
                "id": f"{part}-{number}",
                "question_stem": f"Which {word} is number {number} of {part}?",
                "choices": {
                    "text": [f"{colour} {number}" for colour in ("red", "blue", "grey", "white")],
                    "label": ["A", "B", "C", "D"],
                },
                "answerKey": "ABCD"[number % 4],
            }
            for number in range(rows)
        ]
        text = "\n".join(map(json.dumps, lines))
        (folder / "openbookqa" / f"{part}.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBookQA without the numbers of rows that the whole data set has."""
    whole = definitions()["openbookqa"]
    parts = {name: p.model_copy(update={"rows": None}) for name, p in whole.source.parts.items()}
    splits = {name: s.model_copy(update={"rows": None}) for name, s in whole.splits.items()}
    source = whole.source.model_copy(update={"parts": parts})
    small = whole.model_copy(update={"source": source, "splits": splits})
    monkeypatch.setattr(catalog, "definitions", lambda: {"openbookqa": small})
    monkeypatch.delenv("COGCALIB_DATA", raising=False)


@pytest.mark.usefixtures("any_size")
def test_local_data_may_lie_elsewhere_when_the_run_goes_on(tmp_path: Path) -> None:
    here, there, other = tmp_path / "here", tmp_path / "there", tmp_path / "other"
    write_openbookqa(here, 8)
    config = tmp_path / "local.yaml"
    config.write_text(
        "name: local\nmethods: [sft]\ntasks: {train: openbookqa}\n"
        "train: {steps: 2, batch_size: 4}\nreport: {resamples: 20}\n"
    )
    words = ["run", str(config), "--runs", str(tmp_path / "runs")]
    assert cli.main([*words, "--data-dir", str(here)]) == 0
    folder = tmp_path / "runs" / "local"
    assert len(read_jsonl(folder / "splits" / "train.jsonl", Example)) == 8
    held = {path: path.read_text() for path in folder.rglob("*.json*")} | {
        path: path.read_text() for path in folder.rglob("*.yaml")
    }
    assert not [path for path, text in held.items() if str(here) in text]

    # The run and its data move; nothing is computed again.
    here.rename(there)
    moved = tmp_path / "moved"
    (tmp_path / "runs").rename(moved)
    shutil.rmtree(moved / "local" / "score")
    words = ["run", str(config), "--resume", "--runs", str(moved)]
    assert cli.main([*words, "--data-dir", str(there)]) == 0
    again = json.loads((moved / "local" / "metrics.json").read_text())
    assert again == json.loads(held[folder / "metrics.json"])

    write_openbookqa(other, 8, word="leaf")
    assert cli.main([*words, "--data-dir", str(other)]) == 2
    assert cli.main([*words, "--data-dir", str(tmp_path / "absent")]) == 2
