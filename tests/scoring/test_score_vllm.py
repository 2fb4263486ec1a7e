"""Scoring in vLLM, on a stand-in for its interface: the predictions of transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from cogcalib import cli
from cogcalib.inference.experimental.vllm_backend import VllmBackend
from cogcalib.modeling import load_model
from cogcalib.modeling.shots import draw_shots
from cogcalib.scoring import ScoreSettings, read_predictions, score, score_with
from cogcalib.tasks import load_task

STAND_IN = Path(__file__).parents[1] / "stand_in"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in, installed for as long as the test runs."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    import vllm

    yield vllm
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("atlas/country", {}),
        ("atlas/country", {"shots": 1}),
        ("atlas/country", {"answer": "label"}),
        ("atlas/country", {"answer": "text", "length_normalized": True}),
        ("atlas/country-open", {"max_new_tokens": 8}),
    ],
)
def test_predictions_are_those_of_transformers(vllm, task, settings):
    splits = load_task(task).splits
    if "shots" in settings:
        settings = {"shots": draw_shots(splits["train"], settings["shots"])}
    chosen = ScoreSettings(model_name="m", **settings)
    examples = splits["test"][:8]
    found = score_with(VllmBackend("atlas", None, "float32"), examples, chosen)
    expected = score(*load_model("atlas"), examples, chosen)
    plain = {"confidence": {}, "nll": 0.0, "option_logprobs": None}
    for one, other in zip(found, expected, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert one.nll == pytest.approx(other.nll, abs=1e-4)
        assert replace(one, **plain) == replace(other, **plain)
        if other.option_logprobs is not None:
            assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)


def test_the_command(vllm, tmp_path, capsys):
    words = ["score", "--model", "atlas", "--task", "atlas/capital", "--limit", "6"]
    for worker in ("transformers", "vllm"):
        output = tmp_path / f"{worker}.jsonl"
        assert cli.main([*words, "--worker", worker, "--output", str(output)]) == 0
        record = json.loads((tmp_path / f"{worker}.jsonl.record.json").read_text())
        assert record["model"]["worker"] == worker
    assert len(vllm.LLM.made) == 1
    found, expected = (read_predictions(tmp_path / f"{w}.jsonl") for w in ("vllm", "transformers"))
    assert [row.prediction for row in found] == [row.prediction for row in expected]
    assert {tuple(row.confidence) for row in found} == {("options", "vocab", "surface")}


def test_what_it_cannot_do_is_refused_before_any_work(vllm):
    backend = VllmBackend("atlas", None, "float32")
    hot = ScoreSettings(temperature={"options": 2.0})
    examples = load_task("atlas/country").splits["test"][:2]
    with pytest.raises(ValueError, match="needs logits, which vLLM does not give"):
        score_with(backend, examples, hot)
    questions = load_task("atlas/country-open").splits["test"][:2]
    with pytest.raises(ValueError, match="needs logits, which vLLM does not give"):
        score_with(backend, questions, ScoreSettings(temperature={"mean": 2.0}))
    assert vllm.LLM.made[-1].requests == []
