"""Makes the pages of the site from files of the repository; `mkdocs.yml` names this module.

The READMEs become the first pages. Links to files that are no pages lead to the repository.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_READMES = {"index.md": "README.md", "zh-CN.md": "README.zh-CN.md"}
_LINK = re.compile(r"(\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the READMEs."""
    for page, readme in _READMES.items():
        files.append(File.generated(config, page, content=(ROOT / readme).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrites the links of a page."""
    uri = page.file.src_uri
    source = ROOT / _READMES[uri] if uri in _READMES else ROOT / "docs" / uri
    pages = {ROOT / readme: name for name, readme in _READMES.items()}

    def target(match: re.Match[str]) -> str:
        place = (source.parent / match[2]).resolve()
        if place in pages:
            return match[1] + pages[place]
        if place.is_relative_to(ROOT / "docs") and place.suffix != ".py":
            return match[1] + str(place.relative_to(ROOT / "docs"))
        return f"{match[1]}{config.repo_url}/blob/main/{place.relative_to(ROOT)}"

    return _LINK.sub(target, markdown)
