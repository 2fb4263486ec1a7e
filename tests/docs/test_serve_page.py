"""The page on serving: its options, fields and metrics are those of the code."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from cogcalib.cli import serve
from cogcalib.deployment import Alternative, Answer, Calibration, ModelIdentity
from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.serving.monitoring import Monitor
from cogcalib.serving.replies import confidence_field

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")


def test_every_option_stands_in_the_table() -> None:
    parser = argparse.ArgumentParser()
    serve.add_options(parser)
    found = {name for action in parser._actions for name in action.option_strings}
    options = {name for name in found if name.startswith("--")} - {"--help"}
    assert set(re.findall(r"^\| `(--[\w-]+)` \|", PAGE, re.M)) == options
    assert set(re.findall(r"`(--[\w-]+)[` ]", PAGE)) <= options


def test_the_field_has_the_keys_that_are_shown() -> None:
    (text,) = re.findall(r"```json\n(.+?)```", PAGE, re.S)
    shown = json.loads(text)
    alternatives = tuple(
        Alternative(each["answer"], each["probability"]) for each in shown["alternatives"]
    )
    answer = Answer("France", 0.83, 0.97, abstain=False, alternatives=alternatives)
    assert confidence_field(answer) == shown
    for name in shown:
        assert f"- `{name}`: " in PAGE


def test_the_metrics_are_those_that_are_shown() -> None:
    model = ModelIdentity("atlas", None, None, "0" * 64)
    monitor = Monitor(Calibration(model, AnswerFormat("options", "options")), 10, lambda: 0)
    there = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", page(monitor), re.M))
    created = {name for name in there if name.endswith("_created")}
    assert set(re.findall(r"`(cogcalib_\w+)", PAGE)) == there - created


def page(monitor: Monitor) -> str:
    return monitor.page().decode()
