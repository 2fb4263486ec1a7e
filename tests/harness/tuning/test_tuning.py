"""Choosing alphas: by the stated rule, on the calibration split, and never on a test."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cogcalib import cli
from cogcalib.harness import stages
from cogcalib.harness.config import Method, load_config, parse_config
from cogcalib.harness.selection import Trial
from cogcalib.harness.tuning import (
    MARGINS,
    choose_alpha,
    choose_supports,
    grid,
    is_tunable,
    search,
    tune,
)
from cogcalib.harness.tuning.search import _within
from cogcalib.records import InputError

SMALL = """
name: small
seeds: [0, 1]
methods: [sft, cols-options, cols-options+ts, ls@0.3, focal]
tasks: {train: atlas/country, limit: {train: 16, calibration: 24, test: 24}}
train: {steps: 4, batch_size: 8, style_steps: 2, threshold_every: 2}
"""


def trial(method: str, accuracy: float, vocab: float, options: float, nll: float = 1.0) -> Trial:
    return Trial(method, 0, accuracy, nll, {"options": options, "vocab": vocab})


TRIALS = [
    trial("sft", 0.700, 0.20, 0.20, 1.00),
    trial("cols@0.05", 0.710, 0.15, 0.15, 0.90),
    trial("cols@0.1", 0.695, 0.08, 0.10, 0.80),
    trial("cols@0.2", 0.694, 0.02, 0.02, 0.85),
    trial("cols@0.3", 0.650, 0.01, 0.01, 0.70),
]


def test_both_supports_are_judged_by_the_primary_confidence() -> None:
    trials = [trial("sft", 0.7, 0.2, 0.2)] + [
        trial(f"{name}@{alpha}", 0.7, vocab, options)
        for name in ("cols", "cols-options")
        for alpha, vocab, options in zip(
            (0.05, 0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4), (0.4, 0.3, 0.2, 0.1), strict=True
        )
    ]
    assert choose_alpha(Method.parse("cols"), trials, "ece").chosen == "cols@0.3"
    assert choose_alpha(Method.parse("cols-options"), trials, "ece").chosen == "cols-options@0.3"
    assert (
        choose_alpha(Method.parse("cols-options+ts"), trials, "ece").chosen == "cols-options@0.3+ts"
    )


def test_of_equals_the_weakest() -> None:
    alphas = (0.05, 0.1, 0.2, 0.3)
    trials = [TRIALS[0], *(trial(f"cols@{alpha}", 0.7, 0.1, 0.1) for alpha in alphas)]
    assert choose_alpha(Method.parse("cols"), trials).chosen == "cols@0.05"


def test_the_end_of_the_grid_is_told() -> None:
    ended = [
        TRIALS[0],
        *(t for t in TRIALS[1:] if t.method != "cols@0.1"),
        trial("cols@0.1", 0.6, 1, 1),
    ]
    assert choose_alpha(Method.parse("cols"), ended, "nll").reason.endswith(
        "; an end of what was tried"
    )
    assert "an end" not in choose_alpha(Method.parse("cols"), TRIALS, "nll").reason


def test_the_better_support_is_judged_by_the_primary_definition() -> None:
    trials = [
        trial("sft", 0.7, 0.2, 0.2),
        *(trial(f"cols@{a}", 0.7, 0.15, 0.05) for a in (0.05, 0.1, 0.2, 0.3)),
        *(trial(f"cols-options@{a}", 0.7, 0.05, 0.06) for a in (0.05, 0.1, 0.2, 0.3)),
    ]
    vocab, options = (choose_alpha(Method.parse(name), trials) for name in ("cols", "cols-options"))
    (found,) = choose_supports([options, vocab], trials, "ece")
    assert (found.method, found.chosen) == ("cols", "cols@0.05")
    assert found.reason.startswith("vocab: lowest ECE (options), 5.0 %")
    cheaper = [replace(each, nll=0.5) if "options" in each.method else each for each in trials]
    (found,) = choose_supports([vocab, options], cheaper, "nll")
    assert (found.method, found.chosen) == ("cols", "cols-options@0.05")
    assert choose_supports([options], trials, "ece") == []


def test_a_budget_leaves_the_alphas_far_from_the_default_out() -> None:
    methods = [Method.parse(name) for name in ("cols", "coecp-options")]
    names = {name: [one.name for one in grid] for name, grid in _within(5, methods).items()}
    assert names == {
        "cols": ["cols@0.1", "cols@0.2"],
        "coecp-options": ["coecp-options@0.2", "coecp-options@0.4"],
    }
    assert all(len(grid) == 4 for grid in _within(None, methods).values())
    for budget in (1, 0, -3):
        with pytest.raises(InputError, match=rf"budget must be at least 2, .* got {budget}"):
            _within(budget, methods)


@pytest.mark.parametrize(("budget", "margins"), [(None, 2), (3, 1), (2, 0)])
def test_margins_are_tried_at_the_alpha_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int | None, margins: int
) -> None:
    asked: list[Method] = []
    monkeypatch.setattr(grid, "GRID", {"margin": (0.1, 0.2)})
    monkeypatch.setattr(stages, "train", lambda work, method, *rest: asked.append(method))
    monkeypatch.setattr(stages, "try_out", lambda *args: None)

    def read(folder: object, name: str, seed: int) -> Trial:
        method = Method.parse(name)
        nll = 1.0 - (method.alpha == 0.2) * 0.1 - (method.margin or 0) / 100
        return Trial(name, seed, 0.7, nll, {"vocab": 0.1, "options": 0.1})

    monkeypatch.setattr(search, "read_trial", read)
    config = parse_config(SMALL.replace("cols-options, cols-options+ts, ls@0.3, focal", "combls"))
    console = Console(file=io.StringIO())
    folder = tune(config, tmp_path, console, rule="nll", seeds=[0], budget=budget)
    others = [f"combls@0.2m{m:g}" for m in MARGINS["vocab"] if m != 8][:margins]
    assert [m.name for m in asked] == ["sft", "combls@0.1", "combls@0.2", *others]
    chosen = others[-1] if others else "combls@0.2"
    assert load_config(folder / "tuned.yaml").methods == ("sft", chosen)
    record = json.loads((folder / "tune.json").read_text(encoding="utf-8"))
    assert (record["budget"], record["seeds"]) == (budget, [0])
    assert record["tried"] == {"combls": ["combls@0.1", "combls@0.2", *others]}
    assert record["choices"][0]["at_end"]
    assert record["recommended"]["chosen"] == chosen
    assert load_config(folder / "tuned.yaml").report.rule == "nll"
    again = io.StringIO()
    tune(config, tmp_path, Console(file=again), rule="ece", seeds=[0], budget=budget)
    assert "replaces the choice made with rule nll" in again.getvalue()
    with pytest.raises(InputError, match="seeds must be at least 0, got -1"):
        tune(config, tmp_path, Console(file=again), seeds=[-1])


def test_a_missing_trial_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of cols@0\.3"):
        choose_alpha(Method.parse("cols"), TRIALS[:-1])


@pytest.mark.parametrize(
    ("name", "tunable"),
    [("cols", True), ("ls-options+ts", True), ("coecp-soft", True), ("focal", False),
     ("cols@0.1", False), ("cols-auto", False), ("sft", False), ("ensemble", False)],
)  # fmt: skip
def test_what_has_an_alpha_to_choose(name: str, tunable: bool) -> None:
    assert is_tunable(Method.parse(name)) == tunable


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "GRID", {"label_smoothing": (0.1, 0.4)})
        console = Console(file=io.StringIO())
        return tune(parse_config(SMALL), tmp_path_factory.mktemp("runs"), console, seeds=[5])


def test_tuning_predicts_no_test_question(tuned: Path) -> None:
    files = sorted(path.name for path in (tuned / "tune").rglob("*.jsonl"))
    assert files == ["atlas-country.calibration.jsonl"] * 3
    assert not (tuned / "score").exists()
    assert not (tuned / "recalibrate").exists()


def test_every_trial_is_recorded_with_the_reason_of_the_choice(tuned: Path) -> None:
    record = json.loads((tuned / "tune.json").read_text(encoding="utf-8"))
    trials = {(each["method"], each["seed"]) for each in record["trials"]}
    assert trials == {("sft", 5), ("cols-options@0.1", 5), ("cols-options@0.4", 5)}
    assert [each["method"] for each in record["choices"]] == ["cols-options", "cols-options+ts"]
    assert all("lowest NLL" in c["reason"] or "accurate" in c["reason"] for c in record["choices"])
    assert record["rule"] == "nll"
    assert record["supports"] == []
    assert record["recommended"]["chosen"] == record["choices"][0]["chosen"]


def test_the_tuned_configuration_is_ready_to_run(tuned: Path) -> None:
    config = load_config(tuned / "tuned.yaml")
    assert (config.name, config.seeds) == ("small-tuned", (0, 1))
    sft, chosen, scaled, fixed, focal = config.methods
    assert (sft, fixed, focal) == ("sft", "ls@0.3", "focal")
    assert chosen in ("cols-options@0.1", "cols-options@0.4")
    assert scaled == f"{chosen}+ts"


def test_tuning_goes_on_where_it_stopped(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "GRID", {"label_smoothing": (0.1, 0.4)})
    before = {p: p.stat().st_mtime_ns for p in (tuned / "train").rglob("*") if p.is_file()}
    tune(parse_config(SMALL), tuned.parent, Console(file=io.StringIO()), seeds=[5])
    assert before == {p: p.stat().st_mtime_ns for p in (tuned / "train").rglob("*") if p.is_file()}


def test_nothing_to_choose_is_an_input_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = parse_config(SMALL.replace("cols-options, cols-options+ts, ", ""))
    with pytest.raises(InputError, match="none has an alpha"):
        tune(config, tmp_path, Console(file=io.StringIO()))
    assert not any(tmp_path.iterdir())
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("cols-options, cols-options+ts, ", ""), encoding="utf-8")
    assert cli.main(["tune", str(path), "--runs", str(tmp_path)]) == 2
    assert "none has an alpha" in capsys.readouterr().err
