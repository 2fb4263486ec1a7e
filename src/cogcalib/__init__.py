"""Fine-tune language models so that their confidence can be trusted.

The public names are imported when first used: ``import cogcalib`` itself loads neither torch nor
any room of the package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cogcalib.tasks import load_task
    from cogcalib.training import CogCalibConfig, CogCalibTrainer

__version__ = "0.1.0"

__all__ = ["CogCalibConfig", "CogCalibTrainer", "__version__", "load_task"]

_HOME = {
    "CogCalibConfig": "cogcalib.training",
    "CogCalibTrainer": "cogcalib.training",
    "load_task": "cogcalib.tasks",
}
_ROOMS = {"knowledge", "losses", "metrics", "modeling", "posthoc", "scoring", "tasks", "training"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"cogcalib.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
