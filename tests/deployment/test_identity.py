"""A calibration belongs to one adapter: another's, or the same trained on, is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from adapters_at_hand import calibration_of, save_calibrated_adapter, save_model, temperature
from safetensors.torch import load_file, save_file

import cogcalib
from cogcalib.deployment.calibration_file import AnswerFormat, Calibration, ModelIdentity
from cogcalib.deployment.identity import check_identity
from cogcalib.records import InputError


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, Path]:
    base = save_model(tmp_path / "base")
    folder = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.5))
    return base, folder


def test_the_same_adapter_elsewhere_is_the_same(adapter: tuple[Path, Path], tmp_path: Path) -> None:
    base, folder = adapter
    moved = shutil.copytree(folder, tmp_path / "moved")
    config = json.loads((moved / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somewhere/else"
    (moved / "adapter_config.json").write_text(json.dumps(config))
    assert cogcalib.load(moved, base=str(base)).calibration.map is not None


@pytest.mark.parametrize("change", ["weights", "lora_alpha"])
def test_an_adapter_that_was_changed_is_another(adapter: tuple[Path, Path], change: str) -> None:
    base, folder = adapter
    if change == "weights":
        path = folder / "adapter_model.safetensors"
        weights = load_file(path)
        save_file({name: 3 * weight for name, weight in weights.items()}, path)
    else:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 800}))
    with pytest.raises(InputError, match="was made with another adapter"):
        cogcalib.load(folder, base=str(base))


def test_base_and_adapter_do_not_take_each_others(adapter: tuple[Path, Path]) -> None:
    base, folder = adapter
    with pytest.raises(InputError, match="was made with an adapter on base"):
        cogcalib.load(base, calibration=folder)
    own = calibration_of(base, None)
    with pytest.raises(InputError, match="was made without an adapter"):
        cogcalib.load(folder, base=str(base), calibration=own)


@pytest.mark.parametrize("part", ["sha256", "tokenizer", "adapter"])
def test_a_calibration_of_another_model_is_refused(tmp_path: Path, part: str) -> None:
    made_of = ModelIdentity("atlas", "ab", None, "cd", "ef")
    own = Calibration(made_of, AnswerFormat("options", "options"))
    check_identity(own, made_of, tmp_path)
    check_identity(own, replace(made_of, name="renamed", sha256=None), tmp_path)
    with pytest.raises(InputError, match="was made with an adapter on atlas"):
        check_identity(own, replace(made_of, adapter=None), tmp_path)
    with pytest.raises(InputError, match="was made with another"):
        check_identity(own, replace(made_of, **{part: "other"}), tmp_path)
