"""Files of a probe or a ledger that are cut, have gaps or other types are named, not crashed on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogcalib import cli
from cogcalib.knowledge import load_probe
from cogcalib.knowledge.ledger import SCHEMA, read_ledger
from cogcalib.knowledge.partitions import count_categories, draw_rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes") / "p"
    asked = ["--model", "atlas", "--task", "atlas/country", "--limit", "6"]
    assert cli.main(["probe", *asked, "--output", str(folder)]) == 0
    return folder


def with_column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, values)

    return change


CHANGES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "null rows": (
        lambda t: pa.Table.from_pylist([{}, *t.to_pylist()[1:]], t.schema),
        "'id'",
    ),
    "no category": (with_column("category", pa.array([None] * 6, pa.string())), "category"),
    "text": (with_column("p_greedy", pa.array(["high"] * 6)), "p_greedy|high"),
    "no column": (lambda t: t.drop_columns(["nll"]), "'nll' is missing"),
    "no list": (with_column("greedy", pa.array([None] * 6, pa.list_(pa.bool_()))), "'greedy'"),
    "other preset": (with_column("preset", pa.array(["shouting"] * 6)), "preset"),
    "numbers as ids": (with_column("id", pa.array([[1]] * 6)), "id"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_rows_of_a_probe_are_checked(
    finished: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "p"))
    file, (change, what) = folder / "probe.parquet", CHANGES[kind]
    pq.write_table(change(pq.read_table(file)), file)
    for read in (load_probe, lambda path: draw_rows(path, 3)):
        with pytest.raises(ValueError, match=r"probe\.parquet") as told:
            read(folder)
        assert re.search(what, str(told.value)), told.value
    words = ["--model", "atlas", "--task", "atlas/country", "--limit", "6"]
    assert cli.main(["probe", *words, "--output", str(folder)]) == 2
    assert "probe.parquet" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [0, 3, 200, -20])
def test_a_cut_probe_is_named(
    finished: Path, tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "p"))
    file = folder / "probe.parquet"
    file.write_bytes(file.read_bytes()[:keep])
    for read in (load_probe, lambda path: draw_rows(path, 3), count_categories):
        with pytest.raises(ValueError, match=r"probe\.parquet: no valid Parquet"):
            read(folder)
    words = ["--model", "atlas", "--task", "atlas/country", "--limit", "6"]
    assert cli.main(["probe", *words, "--output", str(folder)]) == 2
    assert "probe.parquet" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text(
        f"name: given\nmethods: [base]\nprobe: {folder}\ntasks: {{train: atlas/country}}\n"
    )
    run = ["run", str(tmp_path / "c.yaml"), "--runs", str(tmp_path)]
    assert cli.main(run) == 2
    assert "probe.parquet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "", "caf\xe9"])
def test_a_broken_claim_is_named(
    finished: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "p"))
    (folder / "inputs.json").write_bytes(text.encode("latin-1"))
    words = ["--model", "atlas", "--task", "atlas/country", "--limit", "6"]
    assert cli.main(["probe", *words, "--output", str(folder)]) == 2
    assert "inputs.json" in capsys.readouterr().err


def test_a_ledger_with_gaps_or_a_cut_part_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = dict(zip(SCHEMA.names, ["a", 0, 0, 0, 0.1, 0.5, 1.0, 0.1, 1.0, 0.9], strict=True))
    part = tmp_path / "ledger" / "steps-000000000-000000001-rank-0.parquet"
    part.parent.mkdir()
    for name in ("example", "step", "nll", "threshold"):
        pq.write_table(pa.Table.from_pylist([row | {name: None}], SCHEMA), part)
        with pytest.raises(ValueError, match=rf"part of a ledger: .*row 1: .*'{name}' is empty"):
            read_ledger(tmp_path)
    pq.write_table(pa.Table.from_pylist([row], SCHEMA), part)
    whole = part.read_bytes()
    for content in (whole[:100], b"", whole[:-10]):
        part.write_bytes(content)
        assert cli.main(["ledger", str(tmp_path)]) == 2
        assert part.name in capsys.readouterr().err
    part.write_bytes(whole)
    shutil.copy(part, part.with_name("steps-first-last-rank-0.parquet"))
    assert cli.main(["ledger", str(tmp_path)]) == 2
    assert "steps-first-last" in capsys.readouterr().err
