"""Fine-tune language models so that their confidence can be trusted.

The public names are imported when first used: ``import cogcalib`` itself loads neither torch nor
any room of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.deployment import load
    from cogcalib.tasks import load_task
    from cogcalib.training import CogCalibConfig, CogCalibTrainer

__version__ = "0.1.0"

__all__ = ["CogCalibConfig", "CogCalibTrainer", "__version__", "load", "load_task"]

import_on_use(
    __name__,
    {
        "cogcalib.deployment": ["load"],
        "cogcalib.knowledge": [],
        "cogcalib.losses": [],
        "cogcalib.metrics": [],
        "cogcalib.modeling": [],
        "cogcalib.posthoc": [],
        "cogcalib.scoring": [],
        "cogcalib.tasks": ["load_task"],
        "cogcalib.training": ["CogCalibConfig", "CogCalibTrainer"],
    },
)
