"""``python -m cogcalib``: the command without its script."""

import sys

from cogcalib.cli import main

sys.exit(main())
