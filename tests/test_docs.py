"""The documentation names what the library has: every public name, and no name that is not there."""

import importlib
import json
import re
from pathlib import Path

import pytest

import lanpaint
import lanpaint.bench
import lanpaint.metrics
import lanpaint.texture
import lanpaint_toys

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGES = [lanpaint, lanpaint.metrics, lanpaint.bench, lanpaint.texture, lanpaint_toys]
DIRECTIVE = re.compile(r"^\.\. (?:auto)?(?:class|function|exception|data):: (\S+)$", re.MULTILINE)
ROLE = re.compile(r"\{(?:class|func|meth|attr|exc)\}`~?([\w.]+)`")
DOTTED = re.compile(r"`((?:lanpaint|lanpaint_toys)(?:\.\w+)+)`")


def documented() -> list[str]:
    return DIRECTIVE.findall((DOCS / "api.md").read_text(encoding="utf-8"))


def resolve(name: str) -> object:
    """The object of a dotted name, modules imported on the way; AttributeError if there is none."""
    found: object = importlib.import_module(name.split(".")[0])
    path = name.split(".")[0]
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        if not hasattr(found, part):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError as error:
                raise AttributeError(f"{path} does not exist") from error
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_interface_page_has_every_public_name_once_and_no_other(package):
    on_page = [name for name in documented() if name.rpartition(".")[0] == package.__name__]
    assert sorted(on_page) == sorted(f"{package.__name__}.{name}" for name in package.__all__)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_names_that_a_page_mentions_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = []
    for name in {*ROLE.findall(text), *DOTTED.findall(text), *DIRECTIVE.findall(text)}:
        try:
            resolve(name)
        except AttributeError:
            missing.append(name)
    assert not missing, f"{page.name} names what does not exist: {', '.join(sorted(missing))}"


def test_public_names_have_docstrings():
    bare = [
        f"{package.__name__}.{name}"
        for package in PACKAGES
        for name in package.__all__
        if not (getattr(package, name).__doc__ or "").strip()
    ]
    assert not bare


def pictures(page: Path) -> list[tuple[str, str]]:
    """Alternative text and place of every picture of a page or a lesson."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    found = []
    for number, cell in enumerate(json.loads(text)["cells"]):
        kinds = {kind for output in cell.get("outputs", ()) for kind in output.get("data", ())}
        if any(kind.startswith("image/") for kind in kinds):
            found.append((cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", ""), f"cell {number}"))
    return found


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))],
    ids=lambda page: page.name,
)
def test_every_picture_says_in_words_what_it_shows(page):
    if "_build" in page.parts or "lessons" in page.parts:
        return
    silent = [place for words, place in pictures(page) if len(words.split()) < 3]
    assert not silent, f"{page.name}: no alternative text for {', '.join(silent)}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_code_on_a_page_is_narrow_enough_to_be_read_without_scrolling(page):
    """88 characters are what a page of 1280 pixels shows. The lessons are held to it by the linter."""
    wide, language = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            language = line[3:] if language is None else None
        elif language is not None and not language.startswith("{") and len(line) > 88:
            wide.append(line)
    assert not wide, f"{page.name}: {wide[0]}"
