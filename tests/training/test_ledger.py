"""The ledger holds what training saw, whatever the layout, and nothing twice after a kill."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from test_resume import run
from tiny_run import assert_same_ledgers, make_data, make_trainer

from cogcalib.knowledge.ledger import SCHEMA, first_absent_step, part_name, read_ledger
from cogcalib.training.supervision import supervised_tokens

N = 16


def trained(output: Path, **settings: Any) -> Any:
    """A run of two passes, the first one in the style phase."""
    defaults = {"max_steps": 4, "style_steps": 2, "per_device_train_batch_size": 8}
    trainer = make_trainer(output, **{"train": make_data(N), **defaults, **settings})
    trainer.train()
    return trainer


def rows(ledger: pa.Table) -> list[dict[str, Any]]:
    return ledger.to_pylist()


def test_every_example_once_a_pass(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    ledger = read_ledger(tmp_path)
    assert ledger.schema == SCHEMA
    assert len(ledger) == 2 * N
    assert ledger["step"].to_pylist() == sorted(ledger["step"].to_pylist())
    for number in range(N):
        own = [row for row in rows(ledger) if row["example"] == str(number)]
        assert [row["step"] // 2 for row in own] == [0, 1]
        assert [row["epoch"] for row in own] == [0, 1]
        assert math.isnan(own[0]["threshold"])
        assert (own[0]["weight"], own[0]["penalty"]) == (0, 0)
        at = {t.step: t.value for t in trainer.threshold_history}
        assert own[1]["threshold"] == pytest.approx(at[own[1]["step"]])
        assert own[1]["weight"] == float(own[1]["nll"] <= own[1]["threshold"])


def test_a_row_is_what_the_loss_was(tmp_path: Path) -> None:
    settings = {"max_steps": 1, "style_steps": 0, "per_device_train_batch_size": N, "gate": "all"}
    untouched = make_trainer(tmp_path / "untouched", train=make_data(N), **settings)
    expected = {}
    for number, row in enumerate(untouched.train_dataset):
        batch = untouched.data_collator([row])
        tokens = supervised_tokens(batch)
        with torch.no_grad():
            logits = untouched.model(input_ids=batch["input_ids"]).logits[0]
        log_p = logits[tokens.positions[0]].log_softmax(1)
        nll = -log_p.gather(1, tokens.targets[:, None]).mean()
        smooth = -log_p.mean(1).mean() - nll
        confidence = log_p.amax(1).exp().prod()
        right = (log_p.argmax(1) == tokens.targets).all()
        expected[str(number)] = [float(x) for x in (nll, 0.3 * smooth, right, confidence)]
    trained(tmp_path / "run", **settings)
    for row in rows(read_ledger(tmp_path / "run")):
        found = [row[name] for name in ("nll", "penalty", "right", "confidence")]
        assert found == pytest.approx(expected[row["example"]], rel=1e-4)


@pytest.mark.parametrize(
    "layout", [{"padding_free": True, "max_length": None}, {"packing": True, "max_length": 40}]
)
def test_layouts_see_the_same(tmp_path: Path, layout: dict[str, Any]) -> None:
    settings = {"max_steps": 1, "style_steps": 0, "per_device_train_batch_size": N}
    ledgers = []
    for name, own in (("padded", {}), ("merged", layout)):
        trained(tmp_path / name, **settings, **own)
        ledger = read_ledger(tmp_path / name)
        ledgers.append({row["example"]: row["nll"] for row in rows(ledger)})
    assert len(ledgers[0]) == N
    assert ledgers[1] == pytest.approx(ledgers[0], rel=1e-4)


def test_more_rows_than_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "whole")
    monkeypatch.setattr("cogcalib.training.ledger_writer.LARGEST", 7)
    trained(tmp_path / "parts")
    assert len(list((tmp_path / "parts" / "ledger").iterdir())) > 1
    assert_same_ledgers(tmp_path / "parts", tmp_path / "whole")


def test_rows_that_wait_on_the_device_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "at-once")
    monkeypatch.setattr("cogcalib.training.ledger_writer.WAITING", 3)
    trained(tmp_path / "by-three")
    assert_same_ledgers(tmp_path / "by-three", tmp_path / "at-once")


def test_names_of_examples(tmp_path: Path) -> None:
    names = [f"question-{index}" for index in range(N)]
    trained(tmp_path, train=make_data(N).add_column("example_id", names))
    assert set(read_ledger(tmp_path)["example"].to_pylist()) == set(names)
    with pytest.raises(ValueError, match="distinct, 'one' comes more than once"):
        make_trainer(tmp_path, train=make_data(2).add_column("example_id", ["one", "one"]))
    with pytest.raises(ValueError, match="example_number"):
        make_trainer(tmp_path, train=make_data(2).add_column("example_number", [0, 1]))


@pytest.mark.parametrize("settings", [{"gate": "none"}, {"ledger": False}])
def test_no_ledger(tmp_path: Path, settings: dict[str, Any]) -> None:
    trained(tmp_path, **settings)
    with pytest.raises(FileNotFoundError, match="no ledger"):
        read_ledger(tmp_path)


def test_keeping_it_changes_nothing(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "a"), trained(tmp_path / "b", ledger=False)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_run_ends_with_the_ledger_of_the_whole_one(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "parts", stop=5)
    # Killed after its checkpoint, it had gone on for a while: those steps come again.
    stray = tmp_path / "parts" / "ledger" / "steps-000000005-000000007-rank-0.parquet"
    stray.write_bytes(next((tmp_path / "parts" / "ledger").glob("*.parquet")).read_bytes())
    run(tmp_path / "parts", resume=True)
    assert len(read_ledger(tmp_path / "whole")) == 10 * 2 * 2
    assert_same_ledgers(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_a_ledger_whose_beginning_lies_elsewhere_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "first", stop=5)
    checkpoint = tmp_path / "first" / "checkpoint-5"
    ours = "cogcalib.training.ledger_writer"
    with caplog.at_level(logging.WARNING, logger=ours):
        run(tmp_path / "second", resume=str(checkpoint))
    (said,) = [record.getMessage() for record in caplog.records if record.name == ours]
    folder = tmp_path / "second" / "ledger"
    assert f"The ledger in {folder} lacks the steps 0 to 4" in said
    assert f"before the checkpoint {checkpoint}" in said
    assert min(read_ledger(folder)["step"].to_pylist()) == 5

    for part in (tmp_path / "first" / "ledger").iterdir():  # as it says
        shutil.copy(part, folder)
    assert_same_ledgers(tmp_path / "second", tmp_path / "whole")
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=ours):
        run(tmp_path / "second", resume=str(checkpoint))
    assert not [record for record in caplog.records if record.name == ours]
    assert_same_ledgers(tmp_path / "second", tmp_path / "whole")


def test_a_gap_in_a_ledger_is_found(tmp_path: Path) -> None:
    assert first_absent_step(tmp_path, 0) == first_absent_step(tmp_path, 3) == 0
    for first, last, rank in ((0, 4, 0), (0, 4, 1), (4, 6, 0), (8, 9, 0)):
        (tmp_path / part_name(first, last, rank)).touch()
    assert [first_absent_step(tmp_path, step) for step in (3, 6, 7, 9)] == [3, 6, 6, 6]


def test_a_stranger_among_the_files_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    path = folder / "steps-000000000-000000001-rank-0.parquet"
    path.write_text("no Parquet")
    with pytest.raises(ValueError, match="is no part of a ledger"):
        read_ledger(tmp_path)
