"""Sphinx configuration: MyST pages, docstrings, one bibliography. Builds offline and without a warning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle

from equikernel import __version__


class KeyLabels(BaseLabelStyle):
    """Labels a reference by its key, so that [Ling24] reads the same on a page and in a docstring."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        """The key of every entry, in order."""
        for entry in sorted_entries:
            yield entry.key


class KeyStyle(PlainStyle):
    """The plain style with keys for labels."""

    default_label_style = KeyLabels


register_plugin("pybtex.style.formatting", "keys", KeyStyle)

project = "equikernel"
author = "The equikernel authors"
copyright = "2026, The equikernel authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
math_eqref_format = "({number})"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "keys"

html_theme = "furo"
html_title = f"equikernel {release}"
