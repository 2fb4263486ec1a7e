"""Plans whose trainings cannot fit onto a device are refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cogcalib import cli
from cogcalib.harness.reproduce import Plan, Preset, load_preset, load_table, make_plan
from cogcalib.harness.reproduce.device_memory import check_device_memory, check_devices
from cogcalib.records import InputError


def lay_out(preset: Preset, root: Path, table: str = "main", **kwargs: Any) -> Plan:
    return make_plan(load_table(table), preset, root, seeds=[0], tune_seeds=[0], **kwargs)


def test_weights_trained_themselves_are_refused_where_they_cannot_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = load_preset("meta-llama/Meta-Llama-3-8B")
    whole = lay_out(llama, tmp_path, "full-finetune", limit_methods=["sft"])
    with pytest.raises(InputError, match="every weight takes 128 GB, and A100 has 80 GB"):
        check_device_memory(whole, 80e9, "A100")
    check_device_memory(whole, 141e9, "H200")
    adapters = lay_out(llama, tmp_path, limit_methods=["sft"])
    check_device_memory(adapters, 80e9, "A100")
    with pytest.raises(InputError, match="its weights alone take 16 GB"):
        check_device_memory(adapters, 12e9, "RTX")
    # Four devices; eight processes have 45 % of one each.
    memory = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    check_devices(adapters, 8, 4)
    with pytest.raises(InputError, match="A100 has 14 GB for a process"):
        check_devices(adapters, 20, 4)


def test_the_command_refuses_them_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    memory = SimpleNamespace(total_memory=80 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    monkeypatch.setattr("cogcalib.cli.reproduce.check_configured", lambda *_: None)  # at hand
    words = ["reproduce", "full-finetune", "--model", "meta-llama/Meta-Llama-3-8B"]
    words += ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "fine-tuning every weight takes 128 GB" in capsys.readouterr().err
