"""``cogcalib ledger``: from a ledger to numbers and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogcalib import cli
from cogcalib.harness.report.ledger_figure import ledger_figure
from cogcalib.knowledge.ledger import SCHEMA, read_ledger
from cogcalib.knowledge.ledger_epochs import Passes

NAN = float("nan")
# example, unit, epoch, step, nll, threshold, weight, penalty, right, confidence
ROWS = [
    ("a", 0, 0, 0, 0.1, NAN, 0.0, 0.0, 1.0, 0.9),
    ("b", 0, 0, 0, 0.9, NAN, 0.0, 0.0, 0.0, 0.5),
    ("c", 0, 0, 1, 0.4, NAN, 0.0, 0.0, 0.0, 0.7),
    ("b", 0, 1, 2, 0.3, 0.5, 1.0, 0.2, 1.0, 0.8),
    ("a", 0, 1, 3, 0.7, 0.5, 0.0, 0.0, 0.0, 0.6),
    ("c", 0, 1, 3, 0.2, 0.6, 1.0, 0.4, 1.0, 0.8),
    # Several processes fill up the last batch of an epoch.
    ("b", 0, 1, 3, 0.9, 0.6, 0.0, 0.0, 0.0, 0.1),
    ("b", 0, 2, 4, 0.1, 0.6, 1.0, 0.3, 1.0, 0.9),
]


def write(folder: Path, rows: list[tuple[object, ...]]) -> None:
    path = folder / "ledger" / "steps-000000000-000000005-rank-0.parquet"
    path.parent.mkdir(parents=True)
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=SCHEMA), path)


def test_passes_by_hand(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    passes = Passes(read_ledger(tmp_path))
    assert passes.examples == ["a", "b", "c"]
    # Before the first threshold, .5, an example is judged by it.
    np.testing.assert_array_equal(passes.known, [[1, 0, NAN], [0, 1, 1], [1, 1, NAN]])
    first, second, third = passes.summaries()
    assert (first.n, first.known, first.learnt, first.forgotten) == (3, pytest.approx(2 / 3), 0, 0)
    assert first.at_first["known"] == pytest.approx((0.5, 0.8))
    assert first.at_first["unknown"] == pytest.approx((0.0, 0.5))
    assert (second.learnt, second.forgotten) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert second.at_first["known"] == pytest.approx((0.5, 0.7))
    assert second.penalty == pytest.approx(0.2)
    assert (third.n, third.step, third.known) == (1, 4, 1)
    assert third.at_first["known"] is None
    assert passes.forgotten() == ["a"]


def test_the_order_of_rows_and_files_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "one", ROWS)
    write(tmp_path / "other", ROWS[::-1])
    one, other = (Passes(read_ledger(tmp_path / name)) for name in ("one", "other"))
    assert one.summaries() == other.summaries()


def test_no_legend_lies_over_what_is_drawn(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    figure = ledger_figure(Passes(read_ledger(tmp_path)).summaries(), "cols, seed-3")
    figure.draw_without_rendering()
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert len(legends) == 2
    for legend in legends:
        box = legend.get_window_extent()
        for axes in figure.axes:
            drawn = [
                axes.bbox,
                axes.xaxis.label.get_window_extent(),
                axes.title.get_window_extent(),
            ]
            assert not any(box.overlaps(each) for each in drawn)
        assert figure.bbox.y0 <= box.y0


def test_a_ledger_without_threshold_says_so(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:3])
    with pytest.raises(ValueError, match="no threshold"):
        Passes(read_ledger(tmp_path))


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = tmp_path / "run" / "train" / "cols" / "seed-3"
    write(training, ROWS)
    assert cli.main(["ledger", str(tmp_path / "run"), "--method", "cols", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "cols, seed-3" in told
    assert "Known once and not at the last pass: 1 examples\n  a" in told
    assert (training / "ledger.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["ledger", str(tmp_path / "run"), "--method", "cols+ts"]) == 0
    assert "cols, seed-3" in capsys.readouterr().out
    picture = tmp_path / "picture.png"
    assert cli.main(["ledger", str(training), "--output", str(picture)]) == 0
    assert picture.is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "absent is not there"),
        (["run", "--method", "sft"], "with a ledger cols seed-3"),
        (["empty"], "holds no training, neither as a run folder nor as the output of a trainer"),
        (["run", "--output", "picture.jpg"], "ends in .png"),
    ],
)
def test_wrong_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run" / "train" / "cols" / "seed-3", ROWS)
    (tmp_path / "empty").mkdir()
    assert cli.main(["ledger", *words]) == 2
    assert message in capsys.readouterr().err
