"""The loggers of the trainer: one process speaks, and names itself only where there are others."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from accelerate import PartialState, logging


class RankLogger(logging.MultiProcessAdapter):
    """Accelerate's, without its ``[RANK 0]`` where there is one process."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """The message and keywords as they are logged."""
        named, kwargs = super().process(msg, kwargs)
        return (named if PartialState().num_processes > 1 else msg), kwargs


def get_logger(name: str) -> RankLogger:
    """A logger that speaks on the main process, as `accelerate.logging.get_logger` gives it."""
    return RankLogger(logging.get_logger(name).logger, {})
