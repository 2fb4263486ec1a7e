"""Names that are misspelt are told at once: nothing heavy is imported before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.cli.names import check_configured
from cogcalib.harness.config import Config
from cogcalib.records import InputError

TASK = "there is no task 'atlas/contry'; did you mean 'atlas/country'? `cogcalib tasks` lists them"
SPLIT = "split must be one of train, calibration, test for task atlas/country, got 'tset'; did you"
ASKED = ["--model", "atlas", "--task"]
REPRODUCE = ["reproduce", "main", "--model", "atlas"]
MISSPELT = (
    (["tasks", "show", "atlas/contry"], TASK),
    (["tasks", "show", "atlas/country", "--prompt", "blb"], "prompt preset must be one of"),
    (["score", *ASKED, "atlas/contry"], TASK),
    (["score", *ASKED, "atlas/country", "--split", "tset"], SPLIT),
    (
        ["score", *ASKED, "atlas/capital", "--shots", "2"],
        "shot_split must be test, the only split of task atlas/capital, got 'train'",
    ),
    (["score", "--model", "atlas", "--data", "absent.jsonl"], "absent.jsonl: no such data file"),
    (["probe", *ASKED, "atlas/contry"], TASK),
    (["probe", *ASKED, "atlas/country", "--split", "tset"], SPLIT),
    (
        ["probe", *ASKED, "own.yaml", "--split", "tset"],
        "split must be train, the only split of task own",
    ),
    (["run", "config.yaml"], TASK),
    (["tune", "config.yaml"], TASK),
    (["guard", "out", "--data", "no.csv", "--target-error", "0.1"], "no.csv: no such data file"),
    (["recalibrate", "out", "--data", "no.csv"], "no.csv: no such data file"),
    (
        ["reproduce", "mian", "--model", "atlas"],
        "there is no table 'mian'; did you mean 'main'? There are carry, controls",
    ),
    (
        ["reproduce", "main", "--model", "llama-3-8b"],
        "there is no model preset 'llama-3-8b'; did you mean 'meta-llama/Meta-Llama-3-8B'? There",
    ),
    (
        [*REPRODUCE, "--limit-methods", "colls"],
        "colls is no row of main that can be named; did you mean 'cols'? There are base",
    ),
    (
        [*REPRODUCE, "--limit-tasks", "contry"],
        "--limit-tasks: main on atlas has no task contry; did you mean 'country'? There are",
    ),
    (["reproduce", "main", "--model", "preset.yaml"], TASK),
)
CONFIG = "{name: away, methods: [sft], tasks: {train: atlas/contry}, train: {steps: 2}}"
PRESET = (
    "{name: mine, about: '', parameters: 1.0e+6, tokens: 40, rate: {device: one, flops: 1.0e+9},"
    " config: {model: {path: atlas}, train: {steps: 20, style_steps: 2}},"
    " tasks: {country: {tasks: {train: atlas/contry}}}}"
)
OWN = (
    "{name: own, description: '', kind: open-ended, question: '{q}', answer: a,"
    " source: {parts: {all: {file: rows.jsonl}}}, splits: {train: {part: all}}}"
)


def test_no_library_is_imported_to_find_a_slip(tmp_path: Path) -> None:
    for name, text in (("config", CONFIG), ("preset", PRESET), ("own", OWN)):
        (tmp_path / f"{name}.yaml").write_text(text)
    code = (
        "import json, sys; from cogcalib.cli import main\n"
        "codes = [main(words) for words in json.loads(sys.argv[1])]\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'{codes}, {heavy}' if {*codes} != {2} or heavy else 0)"
    )
    words = json.dumps([words for words, _ in MISSPELT])
    found = subprocess.run(
        [sys.executable, "-c", code, words], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    lines = found.stderr.splitlines()
    for line, (words, said) in zip(lines, MISSPELT, strict=True):
        assert line.startswith(f"cogcalib: {said}"), words


def test_shots_that_are_not_drawn_need_no_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def execute(options: object) -> None:
        asked.append(options.task)

    monkeypatch.setattr(cli.score, "execute", execute)
    assert cli.main(["score", *ASKED, "atlas/capital"]) == 0
    assert asked == ["atlas/capital"]


def test_tasks_of_a_configuration_are_checked_out_of_domain_too() -> None:
    config = Config.model_validate({"name": "mine", "tasks": {"out_of_domain": ("atlas/rivr",)}})
    with pytest.raises(InputError, match="there is no task 'atlas/rivr'"):
        check_configured(config, None)


def test_bars_of_libraries_are_off_before_a_name_is_looked_up() -> None:
    """They read it as they are imported, and names are looked up with the hub's client."""
    code = (
        "from cogcalib.cli import main\n"
        "assert main(['demo', '-o', 'tasks.train=atlas/contry']) == 2\n"
        "from huggingface_hub.utils import are_progress_bars_disabled\n"
        "assert are_progress_bars_disabled()\n"
    )
    plain = {name: value for name, value in os.environ.items() if "PROGRESS_BARS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain
    )
    assert done.returncode == 0, done.stderr
