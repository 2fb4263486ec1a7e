"""The configuration of a run."""

from __future__ import annotations

from cogcalib.harness.config.methods import Method
from cogcalib.harness.config.read_config import (
    ConfigError,
    dump_config,
    load_config,
    parse_config,
    shipped_config,
)
from cogcalib.harness.config.sections import DEFAULT_RULE, Config, Rule

__all__ = [
    "DEFAULT_RULE",
    "Config",
    "ConfigError",
    "Method",
    "Rule",
    "dump_config",
    "load_config",
    "parse_config",
    "shipped_config",
]
