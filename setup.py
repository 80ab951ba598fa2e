"""The long description of the package: the README with links that work outside the repository."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/acclimate/acclimate"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


def with_absolute_links(text: str) -> str:
    """Markdown in which pictures and pages of the repository have their whole address."""

    def absolute(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        return f"{picture}[{words}]({REPOSITORY}/{'raw' if picture else 'blob'}/main/{target})"

    return _LINK.sub(absolute, text)


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(
        long_description=with_absolute_links(readme),
        long_description_content_type="text/markdown",
    )
