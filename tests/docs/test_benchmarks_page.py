"""The page of benchmarks is what its records say, and says plainly which limits are not kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _page

    return _page


def record(time: float, *, memory: float | None = None, quick: bool = False) -> dict[str, Any]:
    return {
        "ratios": {
            "short/trl": {
                "time": time,
                "time_range": [time / 2, 2 * time],
                "memory": memory,
                "against": "TRL",
                "limit": {"time": 0.4, "memory": 0.12},
            }
        },
        "contestants": {"ours": {"seconds": [1.0, 3.0, 1.5], "peak_bytes": 3 * 2**20}},
        "settings": {"tokens": 512, "device": "cpu", "quick": quick},
        "environment": {
            "date": "2026-01-02",
            "commit": "0123456789",
            "changed_since": True,
            "versions": {"torch": "2.13.0", "trl": "1.16.0"},
            "machine": {"processor": "P", "cores": 2, "memory_gib": 8.0, "device": "cpu"},
            "platform": "Linux",
            "load": 1.5,
        },
    }


def test_the_page_is_that_of_the_records(page: ModuleType) -> None:
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert written == page.render(page.read_records(page.RESULTS)), (
        "run `python benchmarks/_page.py`"
    )


def test_every_benchmark_may_have_a_record(page: ModuleType) -> None:
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert set(page.QUESTIONS) == scripts - {"gpu"}  # which runs others


def test_what_a_record_holds_is_shown(page: ModuleType) -> None:
    text = page.render({"loss": record(0.2, memory=0.1)})
    assert "Of 2 limits 2 are kept." in text
    assert "Not kept" not in text
    assert "| `short/trl` | TRL | 0.200 (0.100 to 0.400) | 0.400 | 0.100 | 0.120 | yes |" in text
    assert "| `ours` | 1.5 | 3 | 3 |" in text
    for told in (
        "2026-01-02, commit 0123456, with changes",
        "P, 2 cores, 8.0 GiB, cpu, Linux",
        "torch 2.13.0, trl 1.16.0",
        "tokens 512, device cpu |",
        "| 1.5 |",
    ):
        assert told in text
    assert "`threshold`" in text.partition("## Without a record")[2]


def test_shares_by_size_say_from_where_on_the_limit_holds(page: ModuleType) -> None:
    sizes = {
        "lora": {
            "seconds_per_step": 1.0,
            "seconds_per_estimate": 10.0,
            "share_by_examples": {"1000": 0.08, "10000": 0.0164},
            "examples_for_limit": 4_000,
        },
        "full": {
            "seconds_per_step": 1.0,
            "seconds_per_estimate": 12.0,
            "share_by_examples": {"1000": 0.096, "10000": 0.02},
            "examples_for_limit": 4_800,
        },
    }
    with_sizes = {**record(0.01), "sizes": sizes}
    with_sizes["settings"] = {**with_sizes["settings"], "calibration": 500}
    text = page.render({"threshold": with_sizes})
    assert "| trained on | 1,000 | 10,000 | at most 2 % from |" in text
    assert "| `lora` | 8.0 % | 1.6 % | 4,000 examples |" in text
    assert "| `full` | 9.6 % | 2.0 % | 4,800 examples |" in text
    assert "500 calibration examples" in text
    assert "trained on |" not in page.render({"threshold": record(0.01)})


def test_a_load_is_told_in_full(page: ModuleType) -> None:
    load = {
        "requests": 12_000,
        "questions": 10_000,
        "lost": 0,
        "p50": 0.0512,
        "p99": 0.2,
        "most": 1.5,
        "statuses": {"malformed: 400": 480, "question: 200": 10_000},
        "memory_mib": {"before": 430.4, "after": 431.0, "peak": 440.0},
        "difference_from_predict": 3e-8,
    }
    text = page.render({"serve": {**record(5.0), "load": load}})
    for told in (
        "| requests | 12,000, of which plain questions 10,000 |",
        "| lost: no answer, or a wrong one | 0 |",
        "| latency of a question, median | 51 ms |",
        "| 99th percentile | 200 ms |",
        "malformed: 400 (480), question: 200 (10,000)",
        "430 before, 431 after, 440 at most",
        "3e-08 apart",
    ):
        assert told in text


@pytest.mark.parametrize(
    ("found", "kind", "value"), [((0.4001, 0.1), "time", "0.400"), ((0.3, 0.2), "memory", "0.200")]
)
def test_a_limit_that_is_not_kept_stands_on_top(
    page: ModuleType, found: tuple[float, float], kind: str, value: str
) -> None:
    text = page.render({"train_step-lora-long": record(found[0], memory=found[1])})
    assert "Of 2 limits 1 are kept." in text
    top = text.partition("## train_step-lora-long")[0]
    assert f"(#train_step-lora-long) | `short/trl` | {kind} | {value} |" in top
    assert "| **no** |" in text


def test_records_by_name_and_in_order(page: ModuleType, tmp_path: Path) -> None:
    for name in ("threshold", "probe_scale", "loss-cuda", "loss", "probe"):
        (tmp_path / f"{name}.json").write_text(json.dumps(record(0.1)))
    names = list(page.read_records(tmp_path))
    assert names == ["loss", "loss-cuda", "threshold", "probe", "probe_scale"]
    (tmp_path / "los.json").write_text(json.dumps(record(0.1)))
    with pytest.raises(page.BadRecord, match=r"los\.json is named after no benchmark"):
        page.read_records(tmp_path)


def test_quick_runs_are_no_records(page: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "loss.json").write_text(json.dumps(record(0.1, quick=True)))
    with pytest.raises(page.BadRecord, match="of a --quick run"):
        page.read_records(tmp_path)


@pytest.mark.parametrize("commit", ["absent", None])
def test_a_record_of_no_commit_is_none(
    page: ModuleType, tmp_path: Path, commit: str | None
) -> None:
    nameless = record(0.1)
    nameless["environment"]["commit"] = None
    if commit == "absent":
        del nameless["environment"]["commit"]
    (tmp_path / "loss.json").write_text(json.dumps(nameless))
    with pytest.raises(page.BadRecord, match=r"loss\.json names no commit"):
        page.read_records(tmp_path)


def test_a_commit_that_the_log_has_is_said_to_be_from_there(page: ModuleType) -> None:
    logged = record(0.1)
    logged["environment"] |= {"commit_from": "the lab log", "changed_since": None}
    assert "commit 0123456 (from the lab log) |" in page.render({"loss": logged})


def test_what_is_measured_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from _environment import environment

    found = environment()
    assert found.keys() == record(0.1)["environment"].keys()
    assert {"python", "torch", "transformers", "trl"} <= found["versions"].keys()
    assert found["machine"].keys() == record(0.1)["environment"]["machine"].keys()
    json.dumps(found, allow_nan=False)
