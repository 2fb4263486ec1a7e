"""Hooks of mkdocs: pages made of files outside docs/, notebooks as pages, links that leave docs/.

The pages stay plain Markdown that GitHub shows as well. A link to a file of the repository that is
no page leads to its address on GitHub; one to a file that is not there is a warning, on which
``mkdocs build --strict`` fails.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # tests import this file where mkdocs is not installed
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

LOG = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files in the root of the repository -> pages of the site."""
LINK = re.compile(r"(\]\()([^)\s]+)(\))|^( *\[[^\]]+\]: )(\S+)$", re.MULTILINE)
TYPED = re.compile(r"<code>(`[^<]*?)(?:, (?:\*optional\*|defaults to)[^<]*)?</code>")
"""A type as TRL's docstrings write it, ``(`str`, defaults to `"nll"`)``; defaults stand beside."""
NAMED = re.compile(r"\[<code>~?([\w.]+)</code>\]")
"""A class as they name it, ``[`~trl.SFTConfig`]``."""
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/ as Markdown."""
    from mkdocs.structure.files import File

    for source, page in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        text = notebook_page(json.loads(notebook.read_text(encoding="utf-8")), notebook.name)
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page at pages of the site, or at the repository."""
    return relinked(markdown, page.file.src_uri, config.extra["repository"])


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show parameters written as TRL writes them like all others."""
    html = TYPED.sub(lambda match: f"<code>{match[1].replace('`', '')}</code>", html)
    return NAMED.sub(r"<code>\1</code>", html)


def relinked(markdown: str, page: str, repository: str) -> str:
    """The text of a page, its links as they lead on the site; code blocks stay as they are.

    Args:
        markdown: Text of the page.
        page: Its path below docs/.
        repository: Address of the repository.
    """
    source = {made: source for source, made in FROM_ROOT.items()}.get(page, f"docs/{page}")

    def replace(match: re.Match[str]) -> str:
        before, target, after = match[1] or match[4], match[2] or match[5], match[3] or ""
        return f"{before}{_target(target, source, page, repository)}{after}"

    pieces, end = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [LINK.sub(replace, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(replace, markdown[end:])])


def _target(target: str, source: str, page: str, repository: str) -> str:
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if meant in FROM_ROOT:
        return _from(page, FROM_ROOT[meant]) + mark + anchor
    if not (ROOT / meant).exists():
        LOG.warning("%s links to %s, which is not there", source, target)
    if (ROOT / meant).is_dir():
        return f"{repository}/tree/main/{meant}"
    if not meant.startswith("docs/"):
        return f"{repository}/blob/main/{meant}"
    meant = meant.removeprefix("docs/")
    return _from(page, re.sub(r"\.ipynb$", ".md", meant)) + mark + anchor


def _from(page: str, other: str) -> str:
    return posixpath.relpath(other, posixpath.dirname(page) or ".")


def notebook_page(notebook: dict[str, Any], name: str) -> str:
    """A notebook as Markdown: its texts, its code, and what the code printed and drew."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        parts += map(_output, cell["outputs"])
    return "\n\n".join([*parts, f"[Download this notebook]({name}){{ download }}"]) + "\n"


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    image = "".join(output["data"]["image/png"]).replace("\n", "")
    return f"![{''.join(output['data']['text/plain'])}](data:image/png;base64,{image})"
