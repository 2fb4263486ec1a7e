"""Access tokens among training arguments: kept out of what is written, printed and logged."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

SECRETS = frozenset(
    {"token", "hub_token", "push_to_hub_token", "use_auth_token", "api_key", "password", "secret"}
)
"""Names of arguments, and of keys within them, whose text is a secret."""


class SecretsKept:
    """Training arguments that lose their secrets when they are pickled or made a text of.

    transformers pickles the arguments into ``training_args.bin`` beside the weights, which people
    share, and gives them to trackers. Copies within a process keep theirs.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: without_secrets(value, name) for name, value in vars(self).items()}

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = object.__new__(type(self))
        memo[id(self)] = other
        vars(other).update(copy.deepcopy(vars(self), memo))
        return other

    def to_dict(self) -> dict[str, Any]:
        """As transformers', secrets within arguments masked as well."""
        found: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        return {name: without_secrets(value, name, mask=True) for name, value in found.items()}

    def __str__(self) -> str:
        lines = [f"{name}={value!r},\n" for name, value in sorted(self.to_dict().items())]
        return f"{type(self).__name__}(\n{''.join(lines)})"


def without_secrets(value: Any, name: str = "", *, mask: bool = False) -> Any:
    """A value with None for the secrets within it, or with their names in brackets.

    Args:
        value: Of an argument; mappings and lists are gone through.
        name: Of the argument or key.
        mask: Name a secret instead.
    """
    if name in SECRETS and isinstance(value, str):
        return f"<{name.upper()}>" if mask else None
    if isinstance(value, Mapping):
        return {key: without_secrets(each, str(key), mask=mask) for key, each in value.items()}
    if isinstance(value, list):
        return [without_secrets(each, mask=mask) for each in value]
    return value
