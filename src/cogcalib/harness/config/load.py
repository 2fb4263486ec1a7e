"""YAML in, a validated `Config` out; every error names the key."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cogcalib.harness.config.schema import Config
from cogcalib.records import InputError


class ConfigError(InputError):
    """A configuration that cannot be used; the message names each offending key."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``5e-4`` as a string; people mean the number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` strings, later ones win; values are YAML.

    Raises:
        ConfigError: Naming file and key, what was allowed and what came.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    return parse_config(path.read_text(encoding="utf-8"), overrides, source=str(path))


def shipped_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration that ships with the package, such as ``demo``."""
    text = (files("cogcalib.harness") / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_config(text, overrides, source=f"{name}.yaml")


def parse_config(text: str, overrides: Sequence[str] = (), *, source: str = "config") -> Config:
    """Validate YAML text; see `load_config`."""
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: must hold keys and values, got {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from error
    except TypeError as error:
        raise ConfigError(f"{source}: only numbers, text, lists and keys: {error}") from error


def dump_config(config: Config) -> str:
    """The whole configuration, defaults included, as YAML that `parse_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _override(values: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"-o wants section.key=value, got {override!r}")
    for depth, key in enumerate(keys[:-1], start=1):
        if values.get(key) is None:
            values[key] = {}
        values = values[key]
        if not isinstance(values, dict):
            raise ConfigError(f"-o {override}: {'.'.join(keys[:depth])} is a value, no section")
    try:
        values[keys[-1]] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"-o {override}: no valid YAML value: {error}") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "the whole"
        came = (
            ""
            if problem["type"] in ("missing", "extra_forbidden")
            else (f" (got {json.dumps(problem['input'], default=str)[:80]})")
        )
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "no such key"
        lines.append(f"{key}: {message}{came}")
    return "; ".join(lines)
