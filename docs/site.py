"""What `make docs` adds to the pages: the README as the first one, CONTRIBUTING and CHANGELOG; and links, written as
they are read in the repository, lead to where the same text stands on the site."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
"""Files of the repository, and where they stand on the site."""
LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """The sections whose pages come and go."""
    for folder in ("methods", "results"):
        pages = sorted((ROOT / "docs" / folder).rglob("*.md"))
        config.nav.append({folder.capitalize(): [str(page.relative_to(ROOT / "docs")) for page in pages]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages that stand beside docs/ in the repository."""
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links and pictures of one page: to the site's own where there is one, else their text alone, as code."""
    here = next(
        (ROOT / name for name, to in BESIDE.items() if to == page.file.src_uri), ROOT / "docs" / page.file.src_uri
    )
    folder = Path(page.file.src_uri).parent

    def moved(found: re.Match[str]) -> str:
        picture, text, place, anchor = found[1], found[2], found[3], found[4] or ""
        target = (here.parent / place).resolve()
        name = os.path.relpath(target, ROOT)
        inside = os.path.relpath(target, ROOT / "docs")
        if name in BESIDE:
            place = BESIDE[name]
        elif not inside.startswith("..") and target.is_file() and target.suffix in (".md", ".png", ".svg"):
            place = inside
        else:
            return f"{text} (`{name}`)" if name not in text else text
        return f"{picture}[{text}]({os.path.relpath(place, folder)}{anchor})"

    return LINK.sub(moved, markdown)
