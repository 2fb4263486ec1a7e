"""From names to a folder of results; interrupted and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cogcalib.knowledge import load_probe
from cogcalib.knowledge import probe_worker as worker
from cogcalib.knowledge.probe_run import probe_task
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.owned_folder import FolderError
from cogcalib.tasks import load_task


def asked(folder: Path, **more: object) -> ProbeTask:
    values = {"model": "atlas", "task": "atlas/country-open", "limit": 20, "prompts": 2, "shots": 1}
    return ProbeTask(**{**values, "output": folder, **more})  # type: ignore[arg-type]


def test_rows_come_in_the_order_of_the_split(tmp_path):
    told: list[tuple[int, int]] = []
    found = probe_task(asked(tmp_path / "p"), lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert list(load_probe(found.folder)) == list(found.rows)
    split = [example.id for example in load_task("atlas/country-open").splits["train"]]
    assert found.rows.ids == sorted(found.rows.ids, key=split.index)
    prompts = json.loads((found.folder / "prompts.json").read_text(encoding="utf-8"))
    assert [len(each["shots"]) for each in prompts["atlas/country-open"]] == [1, 1]


def test_finished_batches_are_not_repeated(tmp_path, monkeypatch):
    whole = probe_task(asked(tmp_path / "whole"))
    monkeypatch.setattr(worker, "BATCH", 6)
    real, calls = worker.assess_with, []

    def breaking(respondent, examples, *rest, **named):  # type: ignore[no-untyped-def]
        calls.append(len(examples))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(respondent, examples, *rest, **named)

    monkeypatch.setattr(worker, "assess_with", breaking)
    with pytest.raises(KeyboardInterrupt):
        probe_task(asked(tmp_path / "p"))
    assert not (tmp_path / "p" / "probe.parquet").exists()
    found = probe_task(asked(tmp_path / "p"))
    assert calls == [6, 6, 6, 6, 2]
    assert found.kept == 12
    assert [r.category for r in found.rows] == [r.category for r in whole.rows]
    assert not (tmp_path / "p" / "parts").exists()
    again = probe_task(asked(tmp_path / "p"))
    assert len(calls) == 5
    assert list(again.rows) == list(found.rows)


def test_another_probe_does_not_fall_into_the_folder(tmp_path):
    probe_task(asked(tmp_path / "p"))
    with pytest.raises(FolderError, match="'seed: 0', not 'seed: 1'"):
        probe_task(asked(tmp_path / "p", seed=1))


def test_multiple_choice_is_asked_zero_shot_in_every_rotation(tmp_path):
    found = probe_task(asked(tmp_path / "p", task="atlas/country", shots=None, limit=8))
    assert {row.prompt_ids for row in found.rows} == {("0/0", "0/1", "0/2", "0/3")}


def test_a_task_without_train_shows_questions_of_the_split_probed(tmp_path):
    found = probe_task(asked(tmp_path / "p", task="atlas/capital", split="test", limit=8, shots=1))
    assert len(found.rows) == 8
    with pytest.raises(
        ValueError, match="split must be test, the only split of task atlas/capital"
    ):
        probe_task(asked(tmp_path / "q", task="atlas/capital"))


def test_a_table(tmp_path):
    path = tmp_path / "own.csv"
    rows = [f"Where is place {i}?,France,,{'ab'[i % 2]}" for i in range(8)]
    path.write_text("\n".join(["question,answer,aliases,group", *rows]), encoding="utf-8")
    found = probe_task(asked(tmp_path / "p", task=None, data=path, limit=None, shots=2))
    assert [row.group for row in found.rows] == list("abababab")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"task": None}, "either task or data must be given"),
        ({"data": Path("x.csv")}, "either task or data must be given, and not both"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"mode": "guess"}, "mode must be one of exact, sampled, got 'guess'"),
        ({"temperature": 0.0}, "temperature must be positive and finite"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"task": "atlas/country", "mode": "sampled"}, "mode must be exact for multiple choice"),
    ],
)
def test_wrong_input_is_refused(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        probe_task(asked(tmp_path / "p", **more))


def test_the_folder_is_named_after_model_and_task():
    assert ProbeTask(model="a/b", task="atlas/country").folder == Path(
        "runs/probe-a-b-atlas-country"
    )
    assert ProbeTask(model="m", task="x/own.yaml").folder == Path("runs/probe-m-own")
    assert ProbeTask(model="m", data=Path("d/q.csv"), adapter="./ad").folder == Path(
        "runs/probe-.-ad-q"
    )
