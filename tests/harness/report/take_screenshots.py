"""Pictures of the pages, wide and narrow, light and dark, to be looked at.

python tests/harness/report/take_screenshots.py FOLDER
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from chromium import browser, find_chromium
from page_builder import build_pages

WIDTHS = {"wide": 1400, "narrow": 390}


def main(folder: Path) -> None:
    """Write ``PAGE-WIDTH-SCHEME.png`` of every page into a folder."""
    executable = find_chromium()
    if executable is None:
        raise SystemExit("no Chromium is installed")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as built, browser(executable) as tab:
        for name, page in build_pages(Path(built)).items():
            for word, width in WIDTHS.items():
                for scheme in ("light", "dark"):
                    tab.open(page, width=width, dark=scheme == "dark")
                    file = folder / f"{name}-{word}-{scheme}.png"
                    file.write_bytes(base64.b64decode(tab.picture()))
                    print(file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
