"""The configuration of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.harness.config.methods import Method
    from cogcalib.harness.config.read_config import (
        ConfigError,
        dump_config,
        load_config,
        parse_config,
        shipped_config,
    )
    from cogcalib.harness.config.sections import Config
    from cogcalib.harness.config.selection_rule import DEFAULT_RULE, Rule

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

# A report reads names of methods; the sections, made by pydantic, take longer to load than it.
import_on_use(
    __name__,
    {
        "cogcalib.harness.config.methods": ["Method"],
        "cogcalib.harness.config.read_config": [
            "ConfigError",
            "dump_config",
            "load_config",
            "parse_config",
            "shipped_config",
        ],
        "cogcalib.harness.config.sections": ["Config"],
        "cogcalib.harness.config.selection_rule": ["DEFAULT_RULE", "Rule"],
    },
)
