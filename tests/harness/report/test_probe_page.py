"""The page of a probe: whole, self-contained, and of the numbers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from page_builder import PROBE, probed

from cogcalib.harness.report.probe_figures import roc_points
from cogcalib.harness.report.probe_page import shares, write_probe_html
from cogcalib.harness.report.probe_tables import by_group
from cogcalib.knowledge import CATEGORIES, Knowledge, Probed
from cogcalib.knowledge.probe_rows import write_rows


@pytest.fixture
def rows() -> list[Knowledge]:
    return probed()


def test_the_page_says_it_all_and_fetches_nothing(tmp_path, rows):
    (tmp_path / "config.yaml").write_text(PROBE, encoding="utf-8")
    write_rows(tmp_path / "probe.parquet", rows)
    text = write_probe_html(tmp_path, resamples=20).read_text(encoding="utf-8")
    for category in CATEGORIES:
        assert category in text
    assert "&lt;group 0&gt;" in text
    assert "<group 0>" not in text
    assert "atlas answers 25.0 % of these questions correctly" in text
    # A heading names its section: what the picture shows differs from model to model.
    assert "<h2>Knowledge and population</h2>" in text
    assert "Large places are known" not in text
    assert text.count("<svg") == 4
    assert rows[1].example.prompt in text
    assert not re.search(r"<link|<img|url\(http", text)
    assert text.count("<script") == 1


def test_one_category_and_few_questions_still_make_a_page(tmp_path, rows):
    (tmp_path / "config.yaml").write_text(PROBE, encoding="utf-8")
    write_rows(tmp_path / "probe.parquet", [replace(row, category="Unknown") for row in rows[:2]])
    text = write_probe_html(tmp_path, resamples=5).read_text(encoding="utf-8")
    assert "100.0 % are new to it" in text
    assert "No question is known (HighlyKnown or MaybeKnown), so there is nothing" in text
    assert "inf nats" not in text


def test_known_questions_without_a_lower_nll_have_no_threshold(tmp_path, rows):
    (tmp_path / "config.yaml").write_text(PROBE, encoding="utf-8")
    alike = [replace(row, signals=replace(row.signals, nll=1.0)) for row in rows]
    write_rows(tmp_path / "probe.parquet", alike)
    text = write_probe_html(tmp_path, resamples=5).read_text(encoding="utf-8")
    assert "no threshold tells them apart" in text


def test_shares_and_groups(rows):
    assert shares(rows) == [0.25] * 4
    groups = by_group(Probed(rows))
    assert [len(members) for members in groups.values()] == [20, 20]
    # The odd ones hold MaybeKnown and Unknown, the even ones HighlyKnown and WeaklyKnown.
    assert list(groups) == ["<group 0>", "<group 1>"]


def test_roc_counts_ties_together():
    false, true = roc_points(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    assert false.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert true.tolist() == [0.0, 0.5, 1.0, 1.0]
