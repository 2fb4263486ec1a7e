"""YAML in, a validated `Config` out; every error names the key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cogcalib.artifacts import named_kind
from cogcalib.harness.config.sections import Config
from cogcalib.records import InputError
from cogcalib.suggest import cut, did_you_mean, keys_at
from cogcalib.yaml_files import DEEPEST, dump_yaml, parse_yaml, read_yaml

LONGEST = 80
"""Characters of a wrong value that a message shows."""


class ConfigError(InputError):
    """A configuration that cannot be used; the message names each offending key."""


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` strings, later ones win; values are YAML.

    Raises:
        ConfigError: Naming file and key, what was allowed and what came.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path}: no such configuration file")
    if not path.is_file():
        raise ConfigError(f"{path} must be a configuration file in YAML, and is no file")
    with _config_errors():
        return _validated(read_yaml(path), overrides, str(path))


def shipped_config(name: str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration that ships with the package, such as ``demo``."""
    text = (files("cogcalib.harness") / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_config(text, overrides, source=f"{name}.yaml")


def parse_config(text: str, overrides: Sequence[str] = (), *, source: str = "config") -> Config:
    """Validate YAML text; see `load_config`."""
    with _config_errors():
        return _validated(parse_yaml(text, source), overrides, source)


@contextmanager
def _config_errors() -> Iterator[None]:
    """Around reading: what is no YAML of ours makes no configuration."""
    try:
        yield
    except InputError as error:
        raise ConfigError(str(error)) from error


def _validated(values: Any, overrides: Sequence[str], source: str) -> Config:
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: must hold keys and values, got {named_kind(values)}")
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error, Config)}") from error


def dump_config(config: Config) -> str:
    """The whole configuration, defaults included, as YAML that `parse_config` reads back."""
    return dump_yaml(config.model_dump(mode="json"))


def _override(values: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise ConfigError(
            f"-o wants section.key=value, got {cut(override)!r}; runs go into the folder --runs"
        )
    for depth, key in enumerate(keys[:-1], start=1):
        if values.get(key) is None:
            values[key] = {}
        values = values[key]
        if not isinstance(values, dict):
            raise ConfigError(f"-o {override}: {'.'.join(keys[:depth])} is a value, no section")
    values[keys[-1]] = parse_yaml(value, f"-o {override}")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """On one line: each offending key, what was allowed and what came.

    Args:
        error: Of values that are not as the model wants them.
        model: The model.
    """
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "the whole"
        came = (
            ""
            if problem["type"] in ("missing", "extra_forbidden")
            else f" (got {_shown(problem['input'])})"
        )
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            *section, last = problem["loc"]
            message = f"no such key{did_you_mean(str(last), keys_at(model, section))}"
        lines.append(f"{key}: {message}{came}")
    return "; ".join(lines)


def _shown(value: Any) -> str:
    """As JSON, cut to `LONGEST` characters."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return cut(text, LONGEST)
