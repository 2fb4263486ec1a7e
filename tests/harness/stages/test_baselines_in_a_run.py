"""Baselines as methods of a run: what they train, predict, cost, and where they are refused."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cogcalib import pipeline
from cogcalib.harness.config import Config, Method, parse_config
from cogcalib.harness.stages import member_seeds, of_seed
from cogcalib.harness.stages.train import _trainer_settings
from cogcalib.jsonl import read_jsonl
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, InputError, Prediction
from cogcalib.scoring import fit_option_scaling

LAPLACE = importlib.util.find_spec("laplace") is not None
TEXT = f"""
name: small
methods: [base, base+ts, sft, mc_dropout, mc_dropout+ts, ensemble, ensemble+ts,
  ensemble+platt{", laplace, laplace+ts" * LAPLACE}]
tasks:
  train: atlas/country
  out_of_domain: [atlas/capital]
  limit: {{train: 16, calibration: 24, test: 24}}
train: {{steps: 4, batch_size: 8, style_steps: 2, threshold_every: 2}}
baselines: {{members: 3, passes: 3}}
report: {{resamples: 20}}
"""


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(TEXT)


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.run(config, tmp_path_factory.mktemp("runs"), Console(file=io.StringIO())).path


def test_members_are_sft_from_seeds_that_no_other_run_uses(finished: Path, config: Config) -> None:
    assert member_seeds(config, Method.parse("ensemble"), 7) == [7, 1007, 2007]
    assert member_seeds(config, Method.parse("laplace"), 7) == [7]
    assert {path.name for path in (finished / "train").iterdir()} == {"sft", "mc_dropout"}
    trained = {path.name for path in (finished / "train" / "sft").iterdir()}
    assert trained == {"seed-0", "seed-1000", "seed-2000"}


def test_every_baseline_predicts_every_task(finished: Path, config: Config) -> None:
    rows = json.loads((finished / "metrics.json").read_text("utf-8"))
    places = {
        ("atlas/country", "calibration"),
        ("atlas/country", "test"),
        ("atlas/capital", "test"),
    }
    assert {(r["method"], r["task"], r["split"]) for r in rows} == {
        (method, *place) for method in config.methods for place in places
    }
    nll = {r["method"]: r["nll"] for r in rows if r["split"] == "calibration"}
    assert nll["ensemble"] != nll["sft"]
    assert nll["mc_dropout"] != nll["sft"]


def test_a_temperature_is_fitted_on_the_calibration_split_for_each_definition(
    finished: Path,
) -> None:
    record = json.loads((finished / "record.json").read_text("utf-8"))
    calibration = read_jsonl(finished / "splits" / "calibration.jsonl", Example)
    examples = of_seed({"calibration": calibration}, 0)["calibration"]
    for before in ("base", "mc_dropout", "ensemble", *["laplace"] * LAPLACE):
        fitted = record["posthoc"][f"{before}+ts"]["0"]
        options = ["options"] if before == "laplace" else ["options", "surface", "vocab"]
        assert sorted(fitted) == options
        folder = finished / "score" / before / "seed-0"
        made = read_jsonl(folder / "atlas-country.calibration.jsonl", Prediction)
        alone = fit_option_scaling(TemperatureScaling(), made, examples).temperature_
        assert fitted["options"]["temperature"] == pytest.approx(alone, rel=1e-4)


def test_a_temperature_keeps_answers_and_lowers_the_nll_it_is_fitted_by(finished: Path) -> None:
    rows = json.loads((finished / "metrics.json").read_text("utf-8"))
    found = {(r["method"], r["split"], r["task"]): r for r in rows}
    for method, split, task in found:
        if method.endswith("+ts"):
            before = found[method.removesuffix("+ts"), split, task]
            after = found[method, split, task]
            assert after["accuracy"] == before["accuracy"]
            assert after["nll"] <= before["nll"] + 1e-6 or split == "test"


def test_the_gamma_of_the_name_is_trained_with(config: Config) -> None:
    gamma = [
        _trainer_settings(config, Method.parse(name), 0).get("gamma")
        for name in ("focal@5", "focal", "sft")
    ]
    assert gamma == [5.0, None, None]


def test_their_cost_stands_beside_their_predictions(finished: Path) -> None:
    def cost(method: str) -> dict[str, float]:
        stage = "recalibrate" if "+" in method else "score"
        path = finished / stage / method / "seed-0" / "cost.json"
        return json.loads(path.read_text("utf-8"))

    assert (cost("mc_dropout")["passes"], cost("mc_dropout")["extra_parameters"]) == (3, 0)
    assert cost("ensemble+ts") == cost("ensemble")
    assert cost("ensemble")["passes"] == 3
    assert cost("ensemble")["extra_parameters"] > 0
    if LAPLACE:
        assert cost("laplace")["extra_parameters"] > 0


def test_dropout_is_that_of_the_configuration(finished: Path) -> None:
    path = finished / "train" / "mc_dropout" / "seed-0" / "adapter_config.json"
    assert json.loads(path.read_text("utf-8"))["lora_dropout"] == 0.1


def test_open_ended_tasks_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    for change in (
        "train: atlas/country-open, out_of_domain: []",
        "train: atlas/country, out_of_domain: [atlas/country-open]",
    ):
        text = f"name: x\nmethods: [ensemble]\ntasks: {{{change}}}\n"
        with pytest.raises(InputError, match="ensemble needs answer options in every task"):
            pipeline.run(parse_config(text), tmp_path, console)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("posthoc", ["ts", "platt"])
def test_a_map_is_not_carried_to_tasks_of_the_other_kind(tmp_path: Path, posthoc: str) -> None:
    for here, there in (("country", "country-open"), ("country-open", "capital")):
        tasks = f"train: atlas/{here}, out_of_domain: [atlas/{there}]"
        config = parse_config(f"name: x\nmethods: [sft+{posthoc}]\ntasks: {{{tasks}}}\n")
        with pytest.raises(InputError, match=rf"sft\+{posthoc} is fitted on atlas/{here}"):
            pipeline.run(config, tmp_path, Console(file=io.StringIO()))
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(LAPLACE, reason="laplace-torch is installed")
def test_laplace_names_the_extra_it_needs(tmp_path: Path) -> None:
    config = parse_config("name: x\nmethods: [laplace]\n")
    with pytest.raises(InputError, match=r"cogcalib\[laplace\]"):
        pipeline.run(config, tmp_path, Console(file=io.StringIO()))
    assert not any(tmp_path.iterdir())
