"""Rows of a probe without reading them whole; batches of which others make a partition."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from probe_world import backend_of, build_model, build_prompts, build_questions, build_tokenizer

from cogcalib.inference.backend_spec import BackendSpec
from cogcalib.knowledge import SlickSettings, assess, load_probe
from cogcalib.knowledge import probe_worker as worker
from cogcalib.knowledge.partitions import (
    count_categories,
    draw_rows,
    merge,
    part_files,
    part_name,
)
from cogcalib.knowledge.probe_rows import Knowledge, write_rows
from cogcalib.knowledge.probe_worker import ProbePlan, ProbeWorker
from cogcalib.knowledge.questions import Listed
from cogcalib.tasks import Asked


@pytest.fixture(scope="module")
def rows() -> list[Knowledge]:
    questions = build_questions()
    return assess(build_model(), build_tokenizer(), questions, build_prompts(questions))


def test_parts_become_one_file_or_stay(tmp_path, rows):
    folder = tmp_path / "probe.parquet"
    for number, start in enumerate(range(0, 12, 5)):
        write_rows(folder / part_name(number), rows[start : start + 5])
    whole = merge(part_files(folder), tmp_path / "whole.parquet")
    assert list(load_probe(whole)) == list(load_probe(tmp_path)) == list(load_probe(folder)) == rows
    assert pq.ParquetFile(whole).num_row_groups == 3
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    for path in (whole, tmp_path):
        assert count_categories(path).total() == 12
        assert list(draw_rows(path, 12)) == rows
        drawn = draw_rows(path, 5).rows
        assert [rows.index(row) for row in drawn] == sorted(rows.index(row) for row in drawn)
        assert len(drawn) == 5
        assert set(draw_rows(path, 4).ids) < set(draw_rows(path, 5).ids)


def test_a_probe_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*probe\.parquet"):
        count_categories(tmp_path)


@pytest.fixture
def plan(tmp_path, monkeypatch) -> ProbePlan:
    monkeypatch.setattr(worker, "BATCH", 3)
    monkeypatch.setattr(worker, "load_backend", lambda _: backend_of(build_model()))
    questions = build_questions(8)
    asked = [Asked(each, "ab"[number % 2]) for number, each in enumerate(questions)]
    prompts = build_prompts(questions)
    return ProbePlan(
        backend=BackendSpec(model=""), questions=Listed(asked, 8),
        prompts={"a": tuple(prompts), "b": tuple(prompts)}, settings=SlickSettings(),
        shots=2, folder=tmp_path / "parts",
    )  # fmt: skip


def test_a_partition_keeps_the_order_and_is_finished_once(plan, monkeypatch):
    told: list[int] = []
    done = ProbeWorker(plan).finish(0, told.append)
    assert (done.renderings, done.kept) == (24, 0)
    assert told[-1] == 24
    assert told == sorted(told)
    found = load_probe(plan.part(0))
    assert found.examples == build_questions(8)
    assert [row.group for row in found] == list("abababab")
    assert [file.name for file in plan.folder.iterdir()] == ["00000000.parquet"]
    before = plan.part(0).stat()
    assert ProbeWorker(plan).finish(0).kept == 8
    assert plan.part(0).stat().st_mtime_ns == before.st_mtime_ns


def test_an_interrupted_partition_is_byte_for_byte_the_same(plan, tmp_path, monkeypatch):
    ProbeWorker(plan).finish(0)
    whole = plan.part(0).read_bytes()
    other = replace(plan, folder=tmp_path / "other")
    real, calls = worker.assess_with, []

    def breaking(respondent, examples, *rest, **named):  # type: ignore[no-untyped-def]
        calls.append(len(examples))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(respondent, examples, *rest, **named)

    monkeypatch.setattr(worker, "assess_with", breaking)
    with pytest.raises(KeyboardInterrupt):
        ProbeWorker(other).finish(0)
    assert not other.part(0).exists()
    assert ProbeWorker(other).finish(0).kept == 3
    # Three of group a; the last of a and two of b; the last two of b.
    assert calls == [3, 1, 2, 1, 2, 2]
    assert other.part(0).read_bytes() == whole
