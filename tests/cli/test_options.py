"""Options made from a dataclass: names, types, defaults and help have one home."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pytest

from cogcalib import cli
from cogcalib.cli.options import SHARED, add_fields, attribute_texts, read_fields
from cogcalib.harness.config import Rule
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.scoring.config import ScoreTask


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Something with settings.

    Attributes:
        model: PEFT `adapter`, 100 %.
        top_k: How many; all
            if not given.
        rate, share: Fractions.
        kind: Of ``two``.
        seeds: Several.
        folder: Where.
        quick: Whether to hurry.

    Raises:
        ValueError: Never.
    """

    model: str
    top_k: int | None = None
    rate: float = 0.5
    share: float = 0.25
    kind: Literal["one", "two"] = "one"
    seeds: Sequence[int] = ()
    folder: Path = Path("here")
    quick: bool = False


def parsed(*words: str) -> Settings:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_fields(parser, Settings)
    return Settings(**read_fields(parser.parse_args(words), Settings))


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parsed("--model", "m") == Settings(model="m")


def test_words_become_what_the_annotations_say() -> None:
    words = "--model m --top-k 3 --rate 0.1 --kind two --seeds 4 5 --folder there --quick"
    found = parsed(*words.split())
    assert (found.top_k, found.rate, found.kind, found.seeds) == (3, 0.1, "two", [4, 5])
    assert (found.folder, found.quick) == (Path("there"), True)


def test_a_field_without_default_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_fields(parser, Settings)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "required: --model" in capsys.readouterr().err


def test_help_is_the_docstring_with_the_default_behind_it() -> None:
    parser = argparse.ArgumentParser()
    add_fields(parser, Settings, values={"model": ("a", "b")}, without=("seeds",))
    out = " ".join(parser.format_help().split("options:")[1].split())
    assert "--model {a,b} PEFT adapter, 100 %" in out
    assert "--top-k N how many; all if not given" in out
    assert "--share X fractions (0.25)" in out
    assert "--kind {one,two} of two (one)" in out
    assert "--folder PATH where (here)" in out
    assert "--quick whether to hurry" in out
    assert "--seeds" not in out


@pytest.mark.parametrize(("verb", "settings"), [("score", ScoreTask), ("probe", ProbeTask)])
def test_every_setting_is_an_option_with_help(
    verb: str, settings: type, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    shown = capsys.readouterr().out
    assert not [f.name for f in fields(settings) if f"--{f.name.replace('_', '-')}" not in shown]
    texts = attribute_texts(settings)
    assert [f.name for f in fields(settings)] == list(texts)
    assert all(texts.values())
    defaults = {f.name: f.default for f in fields(settings) if f.default is not MISSING}
    parser = argparse.ArgumentParser()
    cli.VERBS[verb].add_options(parser)
    assert {name: parser.get_default(name) for name in defaults} == defaults


def test_help_tells_the_defaults_of_an_endpoint() -> None:
    texts = attribute_texts(ScoreTask)
    for field in fields(Endpoint):
        if field.name in texts and field.default is not MISSING:
            value = field.default
            shown = f"{value:g}" if isinstance(value, float) else value
            assert texts[field.name].endswith(f"; {shown} if not given.")


def test_rules_are_those_of_the_selection() -> None:
    assert SHARED["--rule"]["choices"] == get_args(Rule)


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in cli.VERBS)])
def test_help_is_light(words: list[str]) -> None:
    code = (
        "import sys, cogcalib.cli\n"
        f"try: cogcalib.cli.main({words})\n"
        "except SystemExit: pass\n"
        "loaded = {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(loaded)}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
