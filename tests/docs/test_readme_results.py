"""The tables and the cited numbers of README and findings are what the committed records say."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
FINDINGS = "docs/findings.md"
LIMIT = 2_400_000
"""Bytes of all results together."""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))
        yield importlib.import_module("readme")


def test_tables_say_what_the_records_say(script: ModuleType) -> None:
    records = script.read_records()
    for page in script.TABLES:
        text = page.read_text(encoding="utf-8")
        assert script.written(page, text, records) == text, "run: python experiments/readme.py"


def test_another_figure_is_noticed(script: ModuleType) -> None:
    for page, tables in script.TABLES.items():
        text = page.read_text(encoding="utf-8")
        for name in {name for names in tables.values() for name in names}:
            records = copy.deepcopy(script.read_records())
            _change(records[name])
            assert script.written(page, text, records) != text, name


def _change(record: dict[str, Any]) -> None:
    """Another accuracy, share or ECE everywhere."""
    groups = (*record.get("results", ()), *record.get("transfer", ()))
    rows = (row for group in groups for row in group["rows"])
    for row in (*rows, *record.get("means", ())):
        for metric in row["mean"]:
            row["mean"][metric] += 0.01
    for row in record.get("right", ()):
        row["right"] += 0.01
    if sentences := record.get("headline"):
        sentences[0] += " Or not."


def test_a_page_without_its_marks_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="must hold"):
        script.written(script.README, "no marks", script.read_records())


def cited(tables: ModuleType, records: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(page, words with numbers) that sentences written by hand take from the records."""
    main = records["main-atlas"]
    group = tables.find(main["results"], task="atlas/country", in_domain=True)
    seeds, size = f"{len(main['seeds'])} seeds", f"n = {group['n']:,}"
    for page in ("README.md", FINDINGS):
        yield page, f"{seeds}, mean ± standard deviation, atlas/country, test, {size}"
    for name in ("ece.options", "ece.vocab"):
        last = tables.find(group["rows"], row="cols-options-gap")["mean"][name]
        plain = tables.find(group["rows"], row="sft")["mean"][name]
        yield "README.md", f"ECE lower by {1 - last / plain:.0%}"
        yield FINDINGS, f"{1 - last / plain:.0%}"
    for rows in CITED_PAIRS:
        found = tables.find(group["pairs"], rows=list(rows))["difference"]
        ece, accuracy, nll = (
            tables.change(found, metric) for metric in ("ece.options", "accuracy", "nll")
        )
        yield FINDINGS, f"ECE {ece}, accuracy {accuracy}, NLL {nll}"
    surest = records["demo-reliability"]["methods"][0]["bins"][-1]
    yield (
        "README.md",
        f"{surest['confidence']:.0%} confidence are correct {surest['accuracy']:.0%} of the time",
    )
    world = records["population"]
    known, unknown = (world["categories"].index(name) for name in ("HighlyKnown", "Unknown"))
    first, last = world["shares"][0], world["shares"][-1]
    yield "docs/probe.md", f"its {sum(world['counts']):,} training questions"
    yield "docs/probe.md", f"(up to {world['edges'][1]:,} people)"
    yield "docs/probe.md", f"{first[known]:.0%} are HighlyKnown and {first[unknown]:.0%} Unknown"
    yield (
        "docs/probe.md",
        f"(from {world['edges'][-2]:,} people) {last[known]:.0%} and {last[unknown]:.0%}",
    )
    build, entity = records["entity-24m-build"], records["main-entity-24m"]
    facts = sum(each["facts"] for each in build["exposures"]["splits"].values())
    yield (
        FINDINGS,
        (
            f"{build['parameters'] / 1e6:.1f} M parameters, pretrained in {build['minutes']} "
            f"minutes on {facts:,} facts"
        ),
    )
    (task,) = entity["preset"]["tasks"].values()
    group = tables.find(entity["results"], in_domain=True)
    yield (
        FINDINGS,
        (
            f"{task['tasks']['limit']['train']} of its questions, {group['task']}, test, "
            f"n = {group['n']:,}, {len(entity['seeds'])} seeds"
        ),
    )
    yield from cited_of_other_tasks(tables, records)
    yield from cited_of_words(tables, records)
    yield from cited_of_gates(tables, records)
    yield from cited_of_knowledge(tables, records)


def cited_of_knowledge(tables: ModuleType, records: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What SmolLM2 knows, and whether its NLL tells."""
    known = records["known-by-relation"]
    shares = [f"{share:.0%}" for share in known["shares"]["all"]]
    yield "docs/probe.md", f"asked {known['questions']['all']:,} questions"
    yield (
        "docs/probe.md",
        f"{shares[0]} are HighlyKnown, {shares[1]} MaybeKnown and {shares[3]} Unknown",
    )
    looks = {look["steps"]: look for look in records["style-detector"]["looks"]}
    told = {steps: f"{100 * look['auroc']['nll']['auroc']:.1f} %" for steps, look in looks.items()}
    change = looks[30]["nll_less_before"]
    points = tables.change(
        {"ece.options": [change[end] for end in ("difference", "low", "high")]}, "ece.options"
    )
    yield FINDINGS, f"with an AUROC of {told[0]}. After 10 steps"
    yield FINDINGS, f"it is {told[10]}, after 30"
    yield FINDINGS, f"{told[30]}: {points} points. After 120 it is {told[120]}"
    first, last = (100 * looks[steps]["auroc"]["nll"]["auroc"] for steps in (0, 30))
    yield "README.md", f"on SmolLM2 30 steps lift its AUROC from {first:.0f} to {last:.0f} %"
    for name in ("known", "other"):
        before, after = (looks[steps]["mean_nll"][name] for steps in (0, 30))
        yield FINDINGS, f"from {before:.1f} to {after:.1f}{' nats' * (name == 'known')}"


CITED_PAIRS: tuple[tuple[str, str], ...] = (
    ("cols-options-gap+ts", "sft+ts"),
    ("cols-options-gap", "ls-options-gap"),
    ("gated", "uniform"),
)
"""Of the new record, in the words of docs/findings.md."""


def cited_of_other_tasks(
    tables: ModuleType, records: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The comparisons out of domain, and on a real model."""
    (carry,) = records["carry-atlas"]["transfer"]
    (claim,) = carry["claims"]
    for metric in ("nll", "brier"):
        found = {metric: claim["difference"][metric][:3]}
        yield FINDINGS, f"{tables.change(found, metric)}, p = {claim['difference'][metric][3]:.2f}"
    nll = tables.change({"nll": claim["difference"]["nll"][:3]}, "nll")
    yield "README.md", f"NLL {nll}"
    before, after = (
        100 * tables.find(carry["rows"], row=name)["mean"]["ece.options"]
        for name in ("sft+ts", "sft+tsdaca")
    )
    yield "README.md", f"from {before:.1f} to {after:.1f} points"
    for name in ("mistral", "qwen2"):
        (other,) = records[f"carry-atlas-{name}"]["transfer"]
        halfway = tables.find(other["rows"], row="sft+tsdaca")
        for metric in ("nll", "brier", "ece.options"):
            yield FINDINGS, tables.change(halfway["against"], metric)
            assert halfway["better"][metric] >= 8
    for record in map(records.get, ("families-atlas", "full-finetune-atlas")):
        for claim in record["claims"]:
            nll, p = claim["difference"]["nll"][:3], claim["difference"]["nll"][3]
            if p < 0.05:
                yield (
                    FINDINGS,
                    f"{tables.change({'nll': nll}, 'nll')} (Holm over three, p = {p:.3f})",
                )
    main = records["main-atlas"]["results"]
    groups = [each for each in main if not each["in_domain"] and each["n"] >= tables.MANY]
    drawn = tables.drawn(groups, "cols-options-gap", "sft+ts")
    yield FINDINGS, tables.change(drawn, "nll").removesuffix(" *")
    real = records["open-ended-smollm2-open"]["results"]
    home, origin = real[0], tables.find(real, task="entity_questions/P495")
    gate = tables.find(home["pairs"], rows=["cols@0.1", "ls@0.1"])["difference"]
    yield FINDINGS, tables.change(gate, "nll").removesuffix(" *")
    there = [tables.find(origin["rows"], row=name) for name in ("ls@0.1", "cols@0.1", "sft")]
    more, most, plain = (f"{100 * row['mean']['accuracy']:.1f}" for row in there)
    yield FINDINGS, f"{more} and {most} % against {plain}"
    plain, gated = (
        100 * tables.find(home["rows"], row=name)["mean"]["ece.mean"]
        for name in ("sft", "cols@0.1")
    )
    country = records["paper-open-smollm2-country"]["means"]
    below = tables.find(country, row="cols@0.2")["reduction"]
    said = f"takes {below['mean']:.0%} off the ECE, but adds {-below['joint']:.0%} where"
    yield "README.md", said
    yield FINDINGS, f"takes off {100 * below['mean']:.0f} % of the ECE of `mean` on countries"
    yield FINDINGS, f"takes off {1 - gated / plain:.0%}".replace("%", " %")


def cited_of_words(tables: ModuleType, records: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Multiple choice on a real model, where it was trained and elsewhere."""
    made, carry = records["words-smollm2-words"], records["words-carry-smollm2-words"]
    home = tables.find(made["results"], in_domain=True)
    mean = {row["row"]: row["mean"] for row in home["rows"]}
    (elsewhere,) = carry["transfer"]
    far = {row["row"]: row["mean"] for row in elsewhere["rows"]}
    ends = [100 * mean[name]["ece.options"] for name in ("sft", "sft+ts")]
    yield "README.md", "from {:.1f} to {:.1f} points".format(*ends)
    gains = [100 * (each["sft"]["accuracy"] - each["base"]["accuracy"]) for each in (mean, far)]
    yield FINDINGS, "by {:.1f} points in domain and by {:.1f} elsewhere".format(*gains)
    off = [1 - each["sft+ts"]["ece.options"] / each["sft"]["ece.options"] for each in (mean, far)]
    yield FINDINGS, "by {:.0f} %, elsewhere by {:.0f} %".format(*(100 * each for each in off))
    penalised = mean["cols-options@0.1"]
    yield (
        FINDINGS,
        f"takes {100 - 100 * penalised['ece.options'] / mean['sft']['ece.options']:.0f} % off",
    )
    lost = 100 * (mean["sft"]["accuracy"] - penalised["accuracy"])
    yield FINDINGS, f"at {lost:.1f} points of accuracy"
    for claim in made["claims"]:
        yield FINDINGS, tables.change({"nll": claim["difference"]["nll"][:3]}, "nll")
    yield "README.md", tables.change({"nll": made["claims"][0]["difference"]["nll"][:3]}, "nll")
    for claim in elsewhere["claims"]:
        yield FINDINGS, tables.change({"nll": claim["difference"]["nll"][:3]}, "nll")


def cited_of_gates(tables: ModuleType, records: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Which examples are regularised, and what the model knows of them."""
    controls = records["controls-atlas"]
    yield FINDINGS, f"{['', 'one', 'two', 'three', 'four', 'five'][len(controls['seeds'])]} seeds"
    for claim in controls["claims"]:
        nll, p = claim["difference"]["nll"][:3], claim["difference"]["nll"][3]
        yield FINDINGS, f"{tables.change({'nll': nll}, 'nll')}, p = {p:.2f}"
    group = tables.find(controls["results"], task="atlas/country", variant="default")
    pair = tables.find(group["pairs"], rows=["cols-options", "ls-options"])["difference"]
    yield FINDINGS, tables.change(pair, "ece.options")
    labelled, asked = (
        100 * tables.find(group["rows"], row=name)["mean"]["ece.options"]
        for name in ("cols-options-oracle", "cols-options")
    )
    yield FINDINGS, f"`oracle` leaves an ECE of {labelled:.1f}, `nll` {asked:.1f}"
    least = -tables.find(group["rows"], row="cols-options-inverted")["against"]["sft"]["accuracy"][
        0
    ]
    yield FINDINGS, f"costs {100 * least:.1f} points of accuracy"
    ends = [
        100 * tables.find(each["rows"], row="cols-options")["mean"]["ece.options"]
        for each in controls["results"]
        if each["variant"] in ("fixed", "token") and each["in_domain"]
    ]
    yield FINDINGS, "has an ECE of {:.1f} and {:.1f}".format(*ends)
    across = tables.find(records["style-atlas"]["across"], task="atlas/country")["pairs"]
    without = tables.find(across, rows=["none:cols-options", "cols-options"])["difference"]
    for metric in ("accuracy", "nll", "ece.options"):
        yield FINDINGS, tables.change(without, metric)
    length = {each["variant"]: each for each in records["length-atlas"]["results"]}
    page = (RESULTS / "length-atlas.md").read_text(encoding="utf-8")
    for variant in ("quarter", "double"):
        # Differences to SFT stand on the page of a table of variants, not in its record.
        _, _, section = page.partition(f"atlas, {variant}.\n\nAgainst SFT")
        (row, *_) = (row for row in section.splitlines() if row.startswith("| CoLS-options@0.1 |"))
        for cell in (row.split(" | ")[2], row.split(" | ")[4].removesuffix(" |")):
            yield FINDINGS, cell
        pair = tables.find(length[variant]["pairs"], rows=["cols-options", "ls-options"])
        yield FINDINGS, tables.change(pair["difference"], "ece.options")
    longest = tables.find(length["fourfold"]["rows"], row="cols-options")["mean"]["ece.options"]
    yield FINDINGS, f"After sixteen its ECE is {100 * longest:.1f}"
    across = tables.find(records["ratio-atlas"]["across"], task="atlas/country")["pairs"]
    ends = tables.find(across, rows=["0-5:sft", "5-0:sft"])["difference"]
    for metric in ("ece.options", "accuracy"):
        yield FINDINGS, tables.change(ends, metric)
    unknown, known = (
        tables.find(tables.find(records["ratio-atlas"]["results"], variant=name)["rows"], row="sft")
        for name in ("5-0", "0-5")
    )
    gaps = [100 * (row["mean"]["confidence"] - row["mean"]["accuracy"]) for row in (unknown, known)]
    yield "docs/concepts.md", f"alone, atlas ends {gaps[0]:.0f} points overconfident"
    yield "docs/concepts.md", f"ones alone {gaps[1]:.0f} ("
    curves = records["dynamics-atlas"]["analysis"]
    unknown, known = (
        tables.find(curves, method="sft", split="calibration", group=name)
        for name in ("unknown", "known")
    )
    for each in (unknown, known):
        at = [each["step"].index(step) for step in (300, 400)]
        for curve in ("accuracy", "confidence"):
            yield FINDINGS, "{:.1f} to {:.1f}".format(*(100 * each[curve][k] for k in at))


RECOMPUTED = {
    FINDINGS: (
        *("-0.049 [-0.063, -0.035]", "+0.042 [+0.024, +0.061]", "+0.007 [+0.002, +0.012]"),
        *("-0.031 [-0.054, -0.011]", "-0.011 [-0.019, -0.004]", "-4.5 points [-6.9, -1.6]"),
        *("-0.002 [-0.016, +0.010]", "-0.014 [-0.031, +0.001]"),
    ),
}
"""Page -> figures of no committed record; the page says so beside them."""


def read_words(page: str) -> str:
    """A page as one line."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8"))


def test_cited_numbers_are_those_of_the_records(script: ModuleType) -> None:
    found = list(cited(script.tables, script.read_records()))
    assert len(found) > 20
    assert [each for each in found if each[1] not in read_words(each[0])] == []


def test_every_interval_in_a_sentence_is_cited(script: ModuleType) -> None:
    """Numbers with an interval, outside the tables, are all compared."""
    found = " ".join(words for _, words in cited(script.tables, script.read_records()))
    found += " ".join(words for page in RECOMPUTED for words in RECOMPUTED[page])
    for page in script.TABLES:
        text = re.sub(r"^\|.*\n", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        shown = re.findall(r"[+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\]", re.sub(r"\s+", " ", text))
        assert [each for each in shown if each not in found] == []


def test_results_are_slim_and_text_is_text() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".md", ".json", ".svg"}
    assert sum(path.stat().st_size for path in files) <= LIMIT
    for path in RESULTS.rglob("*.svg"):
        assert "<text" in path.read_text(encoding="utf-8"), path
    # Nothing is drawn of the criteria.
    for path in set(RESULTS.glob("*.md")) - {RESULTS / "atlas-criteria.md"}:
        figures = re.findall(r"\]\(([^)]+\.svg)\)", path.read_text(encoding="utf-8"))
        assert figures == [f"{path.stem}.svg"]
        assert path.with_suffix(".svg").is_file()
        assert path.with_suffix(".json").is_file()


def test_figures_are_drawn_from_the_records(script: ModuleType) -> None:
    from cogcalib.harness.reproduce.table_figure import figure_of

    records = script.read_records()
    for name in ("main-atlas", "ood-atlas", "carry-atlas", "open-ended-smollm2-open"):
        drawn = figure_of(records[name])
        assert drawn is not None
        kept = (RESULTS / f"{name}.svg").read_text(encoding="utf-8")
        assert _numbered(drawn) == _numbered(kept)


def _numbered(svg: str) -> str:
    """Clip paths are named by a hash of their sides, whose last bits the solver may change."""
    names = list(dict.fromkeys(re.findall(r"\bp[0-9a-f]{10}\b", svg)))
    return re.sub(r"\bp[0-9a-f]{10}\b", lambda found: f"p{names.index(found[0])}", svg)


@pytest.mark.parametrize("page", RECOMPUTED)
def test_what_no_record_holds_is_called_recomputed(page: str) -> None:
    paragraphs = re.split(r"\n\n|\n- ", (ROOT / page).read_text(encoding="utf-8"))
    for words in RECOMPUTED[page]:
        prose = [each for each in paragraphs if "|" not in each]
        holding = [each for each in prose if words in re.sub(r"\s+", " ", each)]
        assert holding, words
        assert all("ecomputed" in each for each in holding), words


def test_the_page_of_real_facts_says_what_fine_tuning_does(script: ModuleType) -> None:
    entity = script.tables.find(script.read_records()["main-entity-24m"]["results"], in_domain=True)
    joint = script.tables.find(entity["rows"], row="sft")["mean"]["ece.joint"]
    assert f"plain fine-tuning has an ECE of {100 * joint:.1f}" in read_words(FINDINGS)
