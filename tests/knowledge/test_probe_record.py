"""A probe's rows: written, read, filtered."""

from __future__ import annotations

import pytest
from probe_world import build_choices, build_model, build_prompts, build_questions, build_tokenizer

from cogcalib.knowledge import CATEGORIES, Knowledge, Probed, Signals, assess, load_probe
from cogcalib.knowledge.probe_rows import FILE, write_rows
from cogcalib.tasks import compose

SIGNALS = Signals(0.5, 1.0, 0.1, 0.6, 3)


def row(number: int, category: str) -> Knowledge:
    example = build_questions()[number]
    return Knowledge(
        example, "g", category, ("0",), (True,), (0.5,), (0.5,), 1.0, 0.5, 1.0, SIGNALS
    )


PROBED = Probed([row(i, CATEGORIES[i % 4]) for i in range(8)])


@pytest.mark.parametrize("kind", ["open", "choice"])
def test_what_is_written_is_read(tmp_path, kind):
    examples = build_questions(4) if kind == "open" else build_choices(3)
    prompts = build_prompts(build_questions(), shots=2 if kind == "open" else 0)
    rows = assess(build_model(), build_tokenizer(), examples, prompts, group="g")
    write_rows(tmp_path / FILE, rows)
    assert list(load_probe(tmp_path)) == rows
    assert load_probe(tmp_path / FILE).examples == examples


def test_filter():
    assert PROBED.filter("unknown").ids == ["q3", "q7"]
    assert PROBED.filter("Unknown", "WeaklyKnown").ids == ["q2", "q3", "q6", "q7"]
    assert len(PROBED[2:4]) == 2
    with pytest.raises(ValueError, match=r"category must be one of HighlyKnown, .*, got 'new'"):
        PROBED.filter("new")


def test_what_training_takes():
    assert [id for id, known in PROBED.known().items() if known] == ["q0", "q4"]
    assert sum(PROBED.known("HighlyKnown", "MaybeKnown").values()) == 4
    extremes = PROBED.extremes()
    assert [extremes[f"q{i}"] for i in range(4)] == ["known", "doubtful", "doubtful", "unknown"]
    mixed = compose(PROBED.examples, extremes, size=2, unknown_share=0.5, seed=0)
    assert sorted(extremes[example.id] for example in mixed) == ["known", "unknown"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"probe\.parquet"):
        load_probe(tmp_path)
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(ValueError, match="no valid Parquet file"):
        load_probe(tmp_path / "x.parquet")
