"""How Sphinx builds these pages: `make docs`, or `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import json
import os
import sys
from importlib.metadata import version as _version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import launch

project = "lanpaint"
author = "the lanpaint contributors"
copyright = author
release = version = _version("lanpaint")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
extensions += ["sphinx-mathjax-offline"]  # formulas are typeset by a copy of MathJax in the pages, without a network
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run them; their committed outputs are shown

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute that a class documents and autodoc finds is listed once
python_use_unqualified_type_names = True
maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"lanpaint {release}"


def _keep_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put an empty comment before a property's text, for napoleon takes a first line with a colon for "type: text"."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Register the above, to run before napoleon."""
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)


def _bring_lessons() -> None:
    """Copy the notebooks, with their outputs, to where Sphinx finds them; with links that open them, if there are."""
    here = Path(__file__).parent
    (here / "lessons").mkdir(exist_ok=True)
    for notebook in (here.parent / "notebooks").glob("*.ipynb"):
        lesson = json.loads(notebook.read_text(encoding="utf-8"))
        ref = os.environ.get("READTHEDOCS_GIT_IDENTIFIER", f"v{release}")
        links = launch.links(notebook.name, launch.repository(), ref)
        if links:
            lesson["cells"].insert(1, {"cell_type": "markdown", "id": "launch", "metadata": {}, "source": links})
        copy, text = here / "lessons" / notebook.name, json.dumps(lesson)
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:  # Sphinx reads anew what is newer
            copy.write_text(text, encoding="utf-8")


_bring_lessons()
