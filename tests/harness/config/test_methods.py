"""Method names mean what DESIGN says."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import (
    COGCALIB,
    FREE_OF_OPTIONS,
    GATES,
    POSTHOC,
    STEMS,
    canonical_order,
    label,
    split_posthoc,
    with_posthoc,
)
from cogcalib.harness.config.train_sections import TrainSection
from cogcalib.harness.reproduce import load_table, table_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", ("base", "base", None, "none", "vocab", None, None)),
        ("sft+ts", ("sft", "sft", None, "none", "vocab", None, "ts")),
        ("ls", ("ls", "ls", "label_smoothing", "all", "vocab", None, None)),
        ("mbls-options", ("mbls", "mbls-options", "margin", "all", "options", None, None)),
        ("ecp", ("ecp", "ecp", "entropy", "all", "vocab", None, None)),
        ("base+platt", ("base", "base", None, "none", "vocab", None, "platt")),
        ("focal@5", ("focal", "focal@5", "focal", "all", "vocab", None, None, None, 5.0)),
        ("cols", ("cols", "cols", "label_smoothing", "nll", "vocab", None, None)),
        (
            "combls-inverted",
            ("combls", "combls-inverted", "margin", "inverted", "vocab", None, None),
        ),
        ("coecp-soft", ("coecp", "coecp-soft", "entropy", "soft", "vocab", None, None)),
        ("cols-auto", ("cols", "cols-auto", "label_smoothing", "nll", "vocab", "auto", None)),
        (
            "ls-options-gap",
            ("ls", "ls-options-gap", "label_smoothing", "all", "options", "gap", None),
        ),
        (
            "cols-options-random@0.1+platt",
            (
                "cols",
                "cols-options-random@0.1",
                "label_smoothing",
                "random",
                "options",
                0.1,
                "platt",
            ),
        ),
        (
            "cols-gap-options-prior",
            (
                "cols",
                "cols-gap-options-prior",
                "label_smoothing",
                "prior",
                "options",
                "gap",
                None,
            ),
        ),
        ("sft-early+ts", ("sft-early", "sft-early", None, "none", "vocab", None, "ts")),
        ("drop_known", ("drop_known", "drop_known", None, "none", "vocab", None, None)),
        ("mc_dropout", ("mc_dropout", "mc_dropout", None, "none", "vocab", None, None)),
        ("ensemble+platt", ("ensemble", "sft", None, "none", "vocab", None, "platt")),
        ("ensemble+ts", ("ensemble", "sft", None, "none", "vocab", None, "ts")),
        ("laplace", ("laplace", "sft", None, "none", "vocab", None, None)),
        ("sft+daca", ("sft", "sft", None, "none", "vocab", None, "daca")),
        ("sft+tsdaca", ("sft", "sft", None, "none", "vocab", None, "tsdaca")),
    ],
)
def test_parse(name: str, expected: tuple[str, str, str, str, str, float | str, str]) -> None:
    assert Method.parse(name) == Method(name, *expected)


def test_before_posthoc() -> None:
    assert Method.parse("cols@0.1+platt").before_posthoc == Method.parse("cols@0.1")


def test_baseline() -> None:
    assert Method.parse("ensemble+platt").baseline == "ensemble"
    assert Method.parse("sft").baseline is None


@pytest.mark.parametrize(
    ("name", "at"), [("cols", "cols@0.05"), ("cols-options@0.1+ts", "cols-options@0.05+ts")]
)
def test_another_alpha(name: str, at: str) -> None:
    assert Method.parse(name).at(0.05) == at
    assert Method.parse(at).alpha == 0.05


def test_a_margin_stands_behind_the_alpha_and_is_trained_with() -> None:
    method = Method.parse("combls-options@0.2m4+ts")
    assert (method.alpha, method.margin, method.trained) == (0.2, 4.0, "combls-options@0.2m4")
    assert method.at(0.1, 2) == "combls-options@0.1m2+ts"
    assert TrainSection().margin_of(method) == 4.0
    assert TrainSection().margin_of(Method.parse("combls")) == TrainSection().margin.vocab


@pytest.mark.parametrize(
    "name",
    [
        "",
        "CoLS",
        "ls-random",
        "cols-random-oracle",
        "cols-options-options",
        "cols+",
        "sft-options",
        "sft@0.1",
        "cols@",
        "cols@-1",
        "cols@nan",
        "cols@inf",
        "cols@much",
        "cols@1_0",
        "cols@\u0660",
        "cols@0.1m4",
        "combls@0.1m",
        "combls@0.1m-2",
        "combls@m4",
        "cols-auto@0.1",
        "cols-auto-gap",
        "cols-calibrated",
        "combls-gap",
        "cols-early",
        "sft-early-early",
        "sft-early@0.1",
        "ls-prior",
        "focal-options",
        "focal@0.5",
        "focal@5m2",
        "ensemble-auto",
        "base+daca",
        "base+tsdaca",
    ],
)
def test_nonsense_raises(name: str) -> None:
    with pytest.raises(ValueError, match="method"):
        Method.parse(name)


NUMBERS = st.floats(0, 16, allow_nan=False).map(lambda value: float(f"{value:g}"))


@st.composite
def composed(draw: st.DrawFn) -> str:
    """Any name of the grammar."""
    stem = draw(st.sampled_from(list(STEMS)))
    penalty, suffixes, alpha = STEMS[stem].penalty, [], ""
    free = penalty is not None and stem not in FREE_OF_OPTIONS
    if free and draw(st.booleans()):
        suffixes.append("options")
    if STEMS[stem].gate == "nll" and draw(st.booleans()):
        suffixes.append(draw(st.sampled_from(GATES)))
    ways = ["", "@"] if penalty else [""]
    ways += ["auto"] if free else []
    ways += ["gap"] if penalty == "label_smoothing" else []
    way = draw(st.sampled_from(ways))
    if way == "@":
        alpha = f"@{draw(NUMBERS) + (penalty == 'focal'):g}"
        if penalty == "margin" and draw(st.booleans()):
            alpha += f"m{draw(NUMBERS):g}"
    elif way:
        suffixes.append(way)
    aligned = {"daca", "tsdaca"} if stem == "base" else set()
    posthoc = draw(st.sampled_from(["", *(name for name in POSTHOC if name not in aligned)]))
    plain = "-".join([stem, *draw(st.permutations(suffixes))])
    return with_posthoc(plain + alpha, posthoc)


@given(composed())
def test_every_composed_name_parses_and_is_read_back(name: str) -> None:
    method = Method.parse(name)
    assert method.name == name
    assert Method.parse(method.name) == method == Method.read(name)
    assert Method.parse(method.before_posthoc.name).posthoc is None
    assert split_posthoc(name) == (method.before_posthoc.name, method.posthoc or "")


@given(composed())
def test_label_and_description_lose_nothing(name: str) -> None:
    method = Method.parse(name)
    before, posthoc = split_posthoc(name)
    suffixes = before[len(method.stem) :]
    assert method.label.startswith(STEMS[method.stem].label + suffixes)
    assert (" + " in method.label) == bool(posthoc)
    said = method.description
    plain = Method.parse(method.stem).description
    assert ("over the answer options" in said) == (method.support == "options")
    assert ("adjusted while training" in said) == (method.alpha == "auto")
    assert ("only training has added" in said) == (method.alpha == "gap")
    assert ("; alpha " in said.replace("alpha adjusted", "")) == isinstance(method.alpha, float)
    assert ("margin of" in said) == (method.margin is not None)
    assert ("; gamma " in said) == (method.gamma is not None) == ("focal@" in name)
    assert ("on the calibration split" in said) == (posthoc not in ("", "daca"))
    assert ("without labels" in said) == (posthoc in ("daca", "tsdaca"))
    assert said.startswith(plain) == (method.gate == STEMS[method.stem].gate)


@given(st.lists(composed(), min_size=2, max_size=2, unique=True))
def test_two_methods_never_share_label_and_description(names: list[str]) -> None:
    one, other = map(Method.parse, names)
    assert (one.label, one.description) != (other.label, other.description)


@given(st.lists(composed(), unique=True), st.lists(st.text(max_size=8), unique=True))
def test_the_order_is_total_and_puts_stems_first(names: list[str], others: list[str]) -> None:
    ordered = sorted({*names, *others}, key=canonical_order)
    kinds = [canonical_order(name)[0] for name in ordered]
    assert kinds == sorted(kinds)
    assert len({canonical_order(name) for name in ordered}) == len(ordered)
    assert [name for name in ordered if name in STEMS] == [s for s in STEMS if s in ordered]


@given(composed())
def test_groups(name: str) -> None:
    method = Method.parse(name)
    control = any(f"-{gate}" in name for gate in GATES)
    gated = method.stem in COGCALIB and not control and "+" not in name
    assert method.is_cogcalib_variant == gated
    assert method.is_uniform == (method.stem in ("ls", "mbls", "ecp") and "+" not in name)


def test_groups_hold_what_a_tuning_writes() -> None:
    for name in ("cols@0.2", "cols-options@0.1", "cols-options-gap", "combls@0.2m4"):
        assert Method.parse(name).is_cogcalib_variant
    for name in ("ls@0.2", "mbls-options@0.1m2", "ls-auto", "ls-options-gap"):
        assert Method.parse(name).is_uniform


def test_the_same_but_for_the_support() -> None:
    pairs = [
        ("cols-soft-options+ts", "cols-soft+ts", True),
        ("cols-options@0.1", "cols@0.1", True),
        ("cols-options@0.1", "cols@0.2", False),
        ("cols-options", "cols+ts", False),
        ("cols-options", "ls", False),
        ("cols", "cols", False),
    ]
    for one, other, same in pairs:
        assert Method.parse(one).differs_in_support_only(Method.parse(other)) is same


@pytest.mark.parametrize("name", ["cols-mine", "llama-3+ts", "sft+dac", "run/a (b, c)", "", "a+"])
def test_a_name_of_somebody_else_is_shown_as_it_is(name: str) -> None:
    method = Method.read(name)
    assert (method.label, method.description, label(name)) == (name, name, name)
    assert not method.is_cogcalib_variant
    assert not method.is_uniform
    assert not method.is_canonical


def test_the_names_of_all_tables_parse() -> None:
    for table in map(load_table, table_names()):
        listed = [*table.methods, *(name for spec in table.best.values() for name in spec.among)]
        listed += [name for v in table.variants.values() for name in v.methods or ()]
        assert [Method.parse(name).name for name in listed] == listed
        rows = {*table.methods, *table.best}
        for name in {name.rpartition(":")[2] for pair in table.pairs for name in pair}:
            assert split_posthoc(name)[0] in rows


@pytest.mark.parametrize("name", ["anchor", "coanchor", "sft+interp"])
def test_names_that_are_reserved_are_refused_clearly(name: str) -> None:
    with pytest.raises(ValueError, match=rf"method '{re.escape(name)}'.*(begin|allowed|suffix)"):
        Method.parse(name)


def test_no_name_is_suggested_that_would_be_refused() -> None:
    for name in ("focal-option", "cols-inverted-rando"):
        with pytest.raises(ValueError, match="it may be -options") as error:
            Method.parse(name)
        assert "did you mean" not in str(error.value)
