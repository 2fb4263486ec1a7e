"""Write the figures of README.md and docs/findings.md from the records under docs/results.

    python experiments/readme.py            # the records of BLOCKS -> the pages
    python experiments/readme.py --check    # exit code 1 if they disagree

Everything between a pair of marks is made here, sentences included: no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readme_blocks.controls import controls
from readme_blocks.domain import domain
from readme_blocks.elsewhere import elsewhere
from readme_blocks.entity import entity
from readme_blocks.main import results
from readme_blocks.population import population
from readme_blocks.regimes import regimes
from readme_blocks.strength import strength

from cogcalib.records import write_text

ROOT = Path(__file__).resolve().parents[1]
README, FINDINGS = ROOT / "README.md", ROOT / "docs" / "findings.md"
RESULTS = ROOT / "docs" / "results"


@dataclass(frozen=True)
class Block:
    """What stands between a pair of marks.

    Attributes:
        page: Where.
        records: Files under docs/results that it is made from.
        write: Makes it from them.
    """

    page: Path
    records: tuple[str, ...]
    write: Callable[..., str]


BLOCKS: Mapping[str, Block] = {
    "results": Block(README, ("main-atlas",), results),
    "population": Block(README, ("population",), population),
    "controls": Block(FINDINGS, ("controls-atlas",), controls),
    "strength": Block(FINDINGS, ("main-atlas",), strength),
    "domain": Block(FINDINGS, ("main-atlas",), domain),
    "elsewhere": Block(FINDINGS, ("families-atlas", "full-finetune-atlas"), elsewhere),
    "regimes": Block(FINDINGS, ("ratio-atlas", "length-atlas"), regimes),
    "entity": Block(FINDINGS, ("entity-24m-build", "main-entity-24m"), entity),
}
"""Name of a pair of marks -> what it is."""


def written(page: Path, text: str, records: Mapping[str, Any]) -> str:
    """The text of a page with what the records, by name, say.

    Raises:
        ValueError: If a mark is missing.
    """
    for name, block in BLOCKS.items():
        if block.page != page:
            continue
        begin = f"<!-- {name}: written by experiments/readme.py -->"
        end = f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page.name} must hold {begin!r} and {end!r} once each")
        before, _, rest = text.partition(begin)
        made = block.write(*(records[each] for each in block.records))
        text = f"{before}{begin}\n{made}\n{end}{rest.partition(end)[2]}"
    return text


def read_records() -> dict[str, Any]:
    """Name of a record -> what it holds."""
    names = {name for block in BLOCKS.values() for name in block.records}
    return {
        name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        for name in sorted(names)
    }


def main() -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    records, differ = read_records(), 0
    for page in (README, FINDINGS):
        now = page.read_text(encoding="utf-8")
        new = written(page, now, records)
        differ |= new != now
        if not check:
            write_text(page, new)
    return int(check and differ)


if __name__ == "__main__":
    sys.exit(main())
