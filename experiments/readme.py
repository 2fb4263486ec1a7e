"""Write the tables of README.md and of docs/findings.md from the records in docs/results.

    python experiments/readme.py            # the records -> the pages
    python experiments/readme.py --check    # exit code 1 if they disagree

A table stands between a pair of marks. The sentences around it are written by hand;
tests/docs/test_readme_results.py compares their numbers with the records.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import readme_tables as tables

from cogcalib.records import write_text

ROOT = Path(__file__).resolve().parents[1]
README, FINDINGS = ROOT / "README.md", ROOT / "docs" / "findings.md"
RESULTS = ROOT / "docs" / "results"
MODELS = ("families-atlas", "full-finetune-atlas")

TABLES: Mapping[Path, Mapping[Callable[..., Iterator[str]], tuple[str, ...]]] = {
    README: {
        tables.demo: ("demo-reliability",),
        tables.real_results: ("words-smollm2-words",),
        tables.results: ("main-atlas",),
    },
    FINDINGS: {
        tables.methods: ("main-atlas",),
        tables.paper: ("paper-atlas",),
        tables.paper_open: ("paper-atlas",),
        tables.controls: ("controls-atlas",),
        tables.mixtures: ("ratio-atlas",),
        tables.lengths: ("length-atlas",),
        tables.models: MODELS,
        tables.model_changes: MODELS,
        tables.transfer: ("main-atlas",),
        tables.carried: ("carry-atlas",),
        tables.real_words: ("words-smollm2-words",),
        tables.real_model: ("open-ended-smollm2-open",),
        tables.paper_real_country: ("paper-open-smollm2-country",),
        tables.paper_real: ("paper-open-smollm2-paper",),
        tables.readings: ("entity-24m-build",),
        tables.entity: ("main-entity-24m",),
    },
}
"""Page -> what writes a table, named as its marks are -> the records it is made from."""


def written(page: Path, text: str, records: Mapping[str, Any]) -> str:
    """The text of a page with its tables as the records, by name, have them.

    Raises:
        ValueError: If a mark is missing.
    """
    for write, names in TABLES[page].items():
        begin = f"<!-- table {write.__name__}, by experiments/readme.py -->\n"
        end = f"<!-- end of {write.__name__} -->\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page.name} must hold {begin!r} and {end!r} once each")
        before, _, rest = text.partition(begin)
        rows = "\n".join(write(*(records[name] for name in names)))
        text = f"{before}{begin}{rows}\n{end}{rest.partition(end)[2]}"
    return text


def read_records() -> dict[str, Any]:
    """Name of a record, its folder before it, -> what it holds."""
    return {
        path.relative_to(RESULTS).with_suffix("").as_posix(): json.loads(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(RESULTS.rglob("*.json"))
    }


def main() -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    records, differ = read_records(), 0
    for page in TABLES:
        now = page.read_text(encoding="utf-8")
        new = written(page, now, records)
        differ |= new != now
        if not check:
            write_text(page, new)
    return int(check and differ)


if __name__ == "__main__":
    sys.exit(main())
