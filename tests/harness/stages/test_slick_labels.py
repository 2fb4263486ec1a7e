"""A run that names a finished `cogcalib probe` takes its labels from there."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cogcalib import pipeline
from cogcalib.harness import stages
from cogcalib.harness.config import Config, Method, dump_config, parse_config
from cogcalib.jsonl import read_jsonl
from cogcalib.knowledge import CATEGORIES, Knowledge, Signals, load_probe
from cogcalib.knowledge.ledger import read_ledger
from cogcalib.knowledge.probe_rows import FILE, write_rows
from cogcalib.knowledge.probe_run import probe_task
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.modeling import fingerprint
from cogcalib.records import Example, InputError, ProbeRecord
from cogcalib.tasks import draw, load_task

LIMIT = 24
TEXT = f"""
name: small
methods: [cols-oracle, drop_known]
tasks: {{train: atlas/country, limit: {{train: {LIMIT}, calibration: 24, test: 24}}}}
train: {{steps: 4, batch_size: 12, style_steps: 2, threshold_every: 2}}
report: {{resamples: 20}}
"""
KINDS = {"HighlyKnown": "known", "Unknown": "unknown"}


def config(probe: Path, *overrides: str) -> Config:
    return parse_config(TEXT, [f"probe={probe}", *overrides])


def quiet() -> Console:
    return Console(file=io.StringIO())


def row(example: Example, category: str) -> Knowledge:
    return Knowledge(
        example=example, group="all", category=category, prompt_ids=("0",), greedy=(True,),
        sampled=(0.75,), strict=(0.75,), p_greedy=1.0, p_sampled=0.75, p_hit=1.0,
        signals=Signals(nll=0.5, margin=0.1, entropy=0.2, p_gold=0.6, tokens=2),
    )  # fmt: skip


def write_probe(
    folder: Path, rows: Sequence[Knowledge], *, model: Any = None, **asked: Any
) -> Path:
    """What `cogcalib probe` leaves, with categories of our choice."""
    folder.mkdir()
    write_rows(folder / FILE, rows)
    (folder / "inputs.json").write_text(json.dumps({"model": model or fingerprint("atlas")}))
    (folder / "config.yaml").write_text(json.dumps({"model": "atlas", "adapter": None, **asked}))
    return folder


@pytest.fixture(scope="module")
def pool() -> list[Example]:
    return load_task("atlas/country").splits["train"]


@pytest.fixture(scope="module")
def small(pool: list[Example]) -> list[Example]:
    return draw(pool, LIMIT, 0)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe of what the run below trains on."""
    folder = tmp_path_factory.mktemp("probes") / "probe"
    return probe_task(
        ProbeTask(model="atlas", task="atlas/country", limit=LIMIT, output=folder)
    ).folder


@pytest.fixture(scope="module")
def finished(probed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.run(config(probed), tmp_path_factory.mktemp("runs"), quiet()).path


def test_a_real_probe_gives_the_gate_its_labels(finished: Path, probed: Path) -> None:
    rows = {each.example.id: each for each in load_probe(probed)}
    labels = read_jsonl(finished / "probe" / "train.jsonl", ProbeRecord)
    assert {label.id for label in labels} == rows.keys()
    for label in labels:
        found = rows[label.id]
        assert label.category == KINDS.get(found.category, "doubtful")
        assert label.source == "slick"
        assert (label.share_right, label.nll) == (found.p_greedy, found.signals.nll)
    known = {label.id: label.known for label in labels}
    assert set(known.values()) == {True, False}
    ledger = read_ledger(finished / "train" / "cols-oracle" / "seed-0").to_pylist()
    gated = [each for each in ledger if each["step"] >= 2]
    assert {each["example"]: bool(each["weight"]) for each in gated} == known


def test_the_record_names_it_and_the_page_says_what_known_means(
    finished: Path, probed: Path
) -> None:
    record = json.loads((finished / "record.json").read_text("utf-8"))
    assert record["config"]["probe"] == str(probed)
    assert "HighlyKnown, answered correctly" in (finished / "report.html").read_text("utf-8")


def test_a_finished_stage_needs_the_folder_no_more(
    finished: Path, probed: Path, tmp_path: Path
) -> None:
    again = config(tmp_path / "gone")
    copy = tmp_path / "small"
    shutil.copytree(finished, copy)
    (copy / "config.yaml").write_text(dump_config(again))
    begun = stages.begin(again, copy, quiet(), resume=True)
    assert len(begun.knowledge) == LIMIT


def test_drop_known_and_drop_unknown_go_by_it(
    small: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {example.id: CATEGORIES[place % 4] for place, example in enumerate(small)}
    folder = write_probe(tmp_path / "probe", [row(e, own[e.id]) for e in small])
    trained: dict[str, list[str]] = {}

    def fit(_: Any, __: Any, data: Any, output: Path, *___: Any, **____: Any) -> None:
        trained[output.parent.name] = [example.id for example in data.train]

    monkeypatch.setattr(import_module("cogcalib.harness.stages.train"), "fit", fit)
    asked = config(folder, "methods=[drop_known, drop_unknown]")
    begun = stages.begin(asked, tmp_path / "run", quiet())
    for name, dropped in (("drop_known", "HighlyKnown"), ("drop_unknown", "Unknown")):
        stages.train(begun.context, Method.parse(name), 0, begun.splits, begun.knowledge)
        assert set(trained[name]) == {id for id, kind in own.items() if kind != dropped}


def test_the_mixture_is_of_highly_known_and_unknown(pool: list[Example], tmp_path: Path) -> None:
    own = {example.id: CATEGORIES[place % 4] for place, example in enumerate(pool)}
    folder = write_probe(tmp_path / "probe", [row(e, own[e.id]) for e in pool])
    asked = config(folder, "tasks.unknown_share=0.75", "tasks.limit.train=40")
    begun = stages.begin(asked, tmp_path / "run", quiet())
    kinds = [own[example.id] for example in begun.splits["train"]]
    assert (kinds.count("Unknown"), kinds.count("HighlyKnown"), len(kinds)) == (30, 10, 40)


def test_questions_go_by_content_where_a_table_gave_them_other_ids(
    small: list[Example], tmp_path: Path
) -> None:
    own = {example.id: CATEGORIES[place % 4] for place, example in enumerate(small)}
    renamed = [row(replace(e, id=f"row-{e.id}"), own[e.id]) for e in reversed(small)]
    begun = stages.begin(
        config(write_probe(tmp_path / "probe", renamed)), tmp_path / "run", quiet()
    )
    found = {id: label.category for id, label in begun.knowledge.items()}
    assert found == {id: KINDS.get(kind, "doubtful") for id, kind in own.items()}


def test_the_same_id_with_another_text_is_another_question(
    small: list[Example], tmp_path: Path
) -> None:
    rows = [row(e, "Unknown") for e in small[1:]]
    rows.append(row(replace(small[0], prompt="Something else?"), "Unknown"))
    folder = write_probe(tmp_path / "probe", rows)
    with pytest.raises(InputError, match=rf"{folder} lacks 1 of the {LIMIT} training questions"):
        stages.begin(config(folder), tmp_path / "run", quiet())
    assert not (tmp_path / "run").exists()


def test_what_does_not_belong_to_the_run_is_refused(small: list[Example], tmp_path: Path) -> None:
    rows = [row(e, "Unknown") for e in small]
    blob = [row(replace(e, preset="blob"), "Unknown") for e in small]
    other = {"path": "other", "sha256": "0" * 64, "commit": None}
    on_hub = {"path": "atlas", "sha256": None, "commit": "abc"}
    unfinished = write_probe(tmp_path / "unfinished", rows)
    (unfinished / FILE).unlink()
    for folder, message in (
        (tmp_path, "is no folder of a `cogcalib probe`"),
        (unfinished, "interrupted"),
        (write_probe(tmp_path / "a", rows, model=other), "of the model other, whose weights"),
        (write_probe(tmp_path / "b", rows, model=on_hub), "not those of model.path atlas"),
        (write_probe(tmp_path / "c", rows, adapter="tuned"), "atlas with the adapter tuned"),
        (write_probe(tmp_path / "d", blob), "preset 'blob', tasks.prompt is 'cogcalib'"),
        (write_probe(tmp_path / "e", rows[3:]), f"lacks 3 of the {LIMIT}"),
    ):
        with pytest.raises(InputError, match=message):
            stages.begin(config(folder), tmp_path / "run", quiet())
    assert not (tmp_path / "run").exists()


def test_without_one_a_run_is_written_down_as_ever() -> None:
    assert "probe" not in dump_config(parse_config(TEXT))
    assert "probe" not in parse_config(TEXT).model_dump(mode="json")
    named = config(Path("some"))
    assert parse_config(dump_config(named)) == named
