"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")
@pytest.mark.parametrize("name", ["plain_loop", "transformers_trainer"])
def test_the_loss_by_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--steps", "22"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "step 20: t = " in capsys.readouterr().out
