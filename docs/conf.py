"""Sphinx configuration: MyST pages, docstrings, one bibliography. Builds offline and without a warning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as PlainStyle
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx

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

_BULLET = re.compile(r"\s*\* ")
_SECTION = re.compile(r"[A-Z][a-z]+:$")


def escape_formulas(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text: bars around an absolute value and the asterisk of tau* are not markup.

    A displayed formula, indented and after a blank line, keeps its line breaks.
    """
    literal = doctest = displayed = False
    margin = before = ""  # the last line that was not indented, and the line before
    for k, line in enumerate(lines):
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        indented = line.startswith(" ")
        displayed = bool(line.strip()) and indented and not _SECTION.match(margin) and (displayed or not before.strip())
        if line.strip() and not indented:
            margin = line
        before = line
        if doctest:
            continue
        bullet = _BULLET.match(line)
        start = bullet.end() if bullet else len(line) - len(line.lstrip())
        # a literal may run over the end of its line
        parts = re.split(r"(``)", line[start:])
        for place, part in enumerate(parts):
            if part == "``":
                literal = not literal
            elif not literal:
                parts[place] = re.sub(r"[|*]", r"\\\g<0>", part)
        lines[k] = line[:start] + "| " * displayed + "".join(parts)


def setup(app: Sphinx) -> None:
    """Before napoleon, whose own markup is meant."""
    app.connect("autodoc-process-docstring", escape_formulas, priority=400)


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
smartquotes = False  # phi' is a derivative

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
math_eqref_format = "({number})"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "keys"

html_theme = "furo"
html_title = f"equikernel {release}"
