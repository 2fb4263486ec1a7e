"""Configurations: what is accepted reads back the same, what is wrong is named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.harness.config import (
    ConfigError,
    dump_config,
    load_config,
    parse_config,
    shipped_config,
)


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("name: x\ntrain: {stps: 3}", "train.stps", "no such key"),
        ("name: x\nstyle: 3", "style", "no such key"),
        ("name: x\ntrain: {steps: '3'}", "train.steps", "valid integer"),
        ("name: x\ntrain: {steps: 0}", "train.steps", "greater than 0"),
        ("name: x\ntrain: {learning_rate: fast}", "train.learning_rate", "valid number"),
        ("name: x\ntrain: {style_steps: maybe}", "train.style_steps", '"auto"'),
        ("name: x\ntrain: {style_steps: 1.5}", "train.style_steps", "share"),
        ("name: x\ntrain: {threshold_every: true}", "train.threshold_every", "epoch"),
        ("name: x\ntrain: {threshold_every: 0}", "train.threshold_every", "epoch"),
        ("name: x\nmodel: {dtype: int8}", "model.dtype", "'float32'"),
        ("name: x\ntasks: {limit: {dev: 3}}", "tasks.limit.dev", "'calibration'"),
        ("name: x\ntasks: {unknown_share: 2.0}", "tasks.unknown_share", "less than or equal to 1"),
        ("name: x\nmethods: []", "methods", "at least one"),
        ("name: x\nmethods: [sft, sft]", "methods", "twice"),
        ("name: x\nmethods: [cols@0.2, cols@0.20]", "methods", "cols@0.2 and cols@0.20 are one"),
        (
            "name: x\nmethods: [cols-random-options, sft, cols-options-random+ts]",
            "methods",
            "cols-random-options and cols-options-random are one method",
        ),
        ("name: x\nmethods: [cols-foo]", "methods", "suffix -foo"),
        ("name: x\nmethods: [sft-options]", "methods", "no penalty"),
        ("name: x\nmethods: [cols+beta]", "methods", "after '+'"),
        ("name: x\nmethods: [dpo]", "methods", "must begin with"),
        ("name: x\nmethods: [cols-option-gap]", "methods", "did you mean 'cols-options-gap'"),
        ("name: x\nmethods: [colz-auto@1+ts]", "methods", "did you mean 'cols-auto@1+ts'"),
        ("name: x\nmethods: [cols+tss]", "methods", "did you mean 'cols+ts'"),
        ("name: x\nseeds: []", "seeds", "at least one seed"),
        ("name: ../x", "name", "letters"),
        ("seeds: [1]", "name", "required"),
        ("name: x\nmethods: [cols]\ntrain: {steps: 1}", "train.steps", "at least 2"),
        ("name: x\ntasks: {train: a, out_of_domain: [a]}", "tasks.out_of_domain", "tasks.train"),
        (
            "name: x\nmethods: [cols]\ntrain: {steps: 20, style_steps: 30}",
            "style_steps",
            "less than",
        ),
        ("name: x\ntrain: {learning_rate: .inf}", "train.learning_rate", "finite"),
        ("name: x\nseeds: [-1]", "seeds", "from 0"),
        ("name: x\ntasks: {out_of_domain: [b, b]}", "tasks.out_of_domain", "twice"),
        ("name: x\nmodel: {dtype: float16}", "model.dtype", "'bfloat16'"),
        (
            "name: x\ntrain: {alpha: {label_smoothing: {vocab: 1.5, options: 0.1}}}",
            "label_smoothing",
            "at most 1",
        ),
        ("- 1", "config", "must hold keys and values, got a list"),
        ("", "config", "must hold keys and values, got nothing"),
        ("# all of it is a comment", "config", "got nothing"),
        ("name", "config", "got text"),
        ("name: [", "config", "YAML"),
        ("name: x\nseeds: [2001-01-01]", "seeds.0", "2001-01-01"),
    ],
)
def test_an_error_names_the_key(text: str, key: str, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(text)
    assert key in str(error.value)
    assert what in str(error.value)


def test_methods_that_differ_and_old_spellings_are_kept() -> None:
    methods = ("cols-random-options@0.20", "cols-random-options@0.20+ts", "cols-random", "cols@.2")
    found = parse_config(f"name: x\nmethods: [{', '.join(methods)}]")
    assert found.methods == methods


def test_every_error_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"train\.stps.*model\.dtypes|model\.dtypes.*train\.stps"):
        parse_config("name: x\ntrain: {stps: 1}\nmodel: {dtypes: float32}")


@given(
    steps=st.integers(101, 10**6),
    rate=st.floats(1e-8, 1.0),
    style=st.one_of(st.integers(0, 100), st.floats(0.01, 0.99), st.just("auto")),
    seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=4, unique=True),
)
def test_a_dumped_configuration_reads_back(
    steps: int, rate: float, style: float | str, seeds: list[int]
) -> None:
    config = parse_config(
        f"name: x\nseeds: {seeds}\n"
        f"train: {{steps: {steps}, learning_rate: {rate!r}, style_steps: {style!r}}}"
    )
    assert config.train.learning_rate == rate
    assert config.train.style_steps == style
    assert parse_config(dump_config(config)) == config


def test_overrides_win_in_order_and_are_checked() -> None:
    overrides = ["train.steps=7", "train.steps=9", "train.alpha.entropy.vocab=2e-1", "seeds=[1, 2]"]
    config = parse_config(
        "name: x\ntrain: {alpha: {entropy: {vocab: 0.5, options: 0.25}}}", overrides
    )
    assert config.train.steps == 9
    assert config.train.alpha.entropy.vocab == 0.2
    assert config.train.alpha.entropy.options == 0.25
    assert config.seeds == (1, 2)
    for override, what in [
        ("train.stps=3", "train.stps: no such key"),
        ("train.steps", "wants section.key=value"),
        ("name.x=3", "is a value, no section"),
        ("=3", "wants section.key=value"),
        ("name=[", r"-o name=\[, line 1: no valid YAML"),
        ("x" + ".x" * 3000 + "=1", "wants section.key=value"),
    ]:
        with pytest.raises(ConfigError, match=what):
            parse_config("name: x", [override])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such"):
        load_config(tmp_path / "absent.yaml")


def test_what_is_there_and_no_file_is_told_so(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError, match=f"{path} must be a configuration file.*is no file"):
            load_config(path)
    with pytest.raises(ConfigError, match="got '/tmp/out'; runs go into the folder --runs"):
        parse_config("name: x", ["/tmp/out"])


def test_a_long_value_is_shown_by_its_start() -> None:
    with pytest.raises(ConfigError, match=r"\(got \"m{78}…\)") as caught:
        parse_config(f"train: {{steps: {'m' * 500}}}")
    assert len(str(caught.value)) < 300


def test_the_shipped_demo_is_valid() -> None:
    config = shipped_config("demo")
    assert {"base", "sft", "sft+ts", "ls", "cols", "combls", "coecp"} <= set(config.methods)


def test_limits_are_written_in_one_order() -> None:
    one, other = (
        dump_config(parse_config(f"name: x\ntasks: {{limit: {{{limits}}}}}"))
        for limits in ("train: 2, calibration: 3", "calibration: 3, train: 2")
    )
    assert one == other
