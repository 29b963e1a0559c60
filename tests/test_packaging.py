"""What is published: complete, small, with links that work on an index, and with weights that are found."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

from lanpaint.names import SEQUENCES, SHIPPED, model_folder
from lanpaint_toys import shipped

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "toy_models" / "lanpaint_toys" / "weights"
ADDRESS = "https://example.org/owner/lanpaint"
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="this is a part of a checkout")
pytest.importorskip("setuptools", minversion="77", reason="archives are built by setuptools")


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(folder, call, address=None, small=True):
    """Call a function of setuptools' backend in a folder, in a process of its own."""
    ours = ("LANPAINT_ADDRESS", "LANPAINT_SMALL", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    code = f"import setuptools.build_meta as backend; backend.{call}"
    given = {**kept, "LANPAINT_ADDRESS": address} if address is not None else kept
    if small:
        given = {**given, "LANPAINT_SMALL": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=given, capture_output=True, text=True)


def _metadata(text):
    found = message_from_bytes(text)
    return found.get_payload(), dict(line.split(", ", 1) for line in found.get_all("Project-URL", []))


def _places(description):
    """Where the links and the pictures of a description point to, read by a parser of Markdown."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    tokens = [child for token in markdown.parse(description) for child in token.children or ()]
    links = [token.attrs["href"] for token in tokens if token.type == "link_open"]
    return links, [token.attrs["src"] for token in tokens if token.type == "image"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git holds, where the weights of more than 2 MB are empty files."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout")
    folder = tmp_path_factory.mktemp("checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            content = (ROOT / name).read_bytes()
            (folder / name).write_bytes(content if len(content) < 2e6 else b"")
    return folder


@pytest.fixture(scope="module")
def archive(checkout, tmp_path_factory):
    """The source archive, built with an address, and unpacked."""
    held = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    out = tmp_path_factory.mktemp("archive")
    done = _build(checkout, f"build_sdist({str(out)!r})", ADDRESS)
    assert done.returncode == 0, done.stderr
    (packed,) = out.glob("lanpaint-*.tar.gz")
    with tarfile.open(packed) as tar:
        tar.extractall(out, filter="data")
    return held, next(path for path in out.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    """The wheel that is built from the source archive, where the address is not known any more."""
    out = tmp_path_factory.mktemp("wheel")
    done = _build(archive[1], f"build_wheel({str(out)!r})")
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_source_archive_holds_what_git_holds(archive):
    held, folder = archive
    packed = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in packed - made if ".egg-info" not in name} == held


def test_the_wheel_is_small_and_has_the_weights_of_digits_alone(wheel):
    assert wheel.stat().st_size <= 5e6
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "lanpaint",
        "lanpaint_command.py",
        "lanpaint_toys",
    }
    assert {name.split("/")[2] for name in names if name.startswith("lanpaint_toys/weights/")} == {"digits"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "lanpaint").rglob("*.py")}
    assert modules <= set(names)


def test_in_the_wheel_every_link_and_picture_is_absolute_and_of_the_version(wheel):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith("/METADATA"))
        description, urls = _metadata(packed.read(name))
    links, pictures = _places(description)
    version = wheel.name.split("-")[1]
    given = _places((ROOT / "README.md").read_text(encoding="utf-8"))
    assert (len(links), len(pictures)) == tuple(map(len, given))
    assert pictures
    assert all(place.startswith(f"{ADDRESS}/raw/v{version}/") for place in pictures)
    assert all(re.match("https://", place) for place in links)
    own = [place.split("#")[0].removeprefix(f"{ADDRESS}/") for place in (*links, *pictures) if ADDRESS in place]
    assert all((ROOT / place.split("/", 2)[2]).exists() for place in own)
    assert {"Homepage", "Source", "Documentation", "Changelog", "Issues"} == set(urls)
    assert all(place.startswith(ADDRESS) for place in urls.values())


def test_without_an_address_the_description_has_no_link_that_leads_nowhere(checkout, tmp_path):
    done = _build(checkout, f"prepare_metadata_for_build_wheel({str(tmp_path)!r})")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("METADATA")
    description, urls = _metadata(path.read_bytes())
    links, pictures = _places(description)
    assert not pictures
    assert not urls
    assert all(re.match("https://", place) for place in links)
    words = re.findall(r"!\[([^\]]+)\]", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert all(f"*{text}*" in description for text in words)


@pytest.mark.parametrize(
    "address", ["here", "http://example.org/o/n", "https://example.org", "https://example.org/a b"]
)
def test_an_address_that_is_none_is_refused_in_one_line(checkout, tmp_path, address):
    done = _build(checkout, f"prepare_metadata_for_build_wheel({str(tmp_path)!r})", address)
    assert done.returncode
    assert done.stderr.strip().splitlines()[-1] == (
        f"LANPAINT_ADDRESS is {address}, expected one such as https://example.org/owner/lanpaint"
    )


def test_links_in_code_stay_and_all_others_become_absolute():
    absolute = _module(ROOT / "setup.py").absolute
    page = "`[a](b)` [`x[0]`](docs/a.md#b) ![c](d.png) [![e](f.png)](docs) [g](https://h.i)\n```\n[j](k)\n```\n[l](#m)"
    assert absolute(page, "https://example.org/o/n", "v1") == (
        "`[a](b)` [`x[0]`](https://example.org/o/n/blob/v1/docs/a.md#b) ![c](https://example.org/o/n/raw/v1/d.png) "
        "[![e](https://example.org/o/n/raw/v1/f.png)](https://example.org/o/n/tree/v1/docs) [g](https://h.i)\n"
        "```\n[j](k)\n```\n[l](https://example.org/o/n/blob/v1/README.md#m)"
    )
    assert absolute(page, None, "v1") == "`[a](b)` `x[0]` *c* *e* [g](https://h.i)\n```\n[j](k)\n```\nl"


def test_the_package_of_weights_has_every_model_that_the_library_has_not():
    from setuptools.config.pyprojecttoml import load_file

    patterns = load_file(WEIGHTS / "pyproject.toml")["tool"]["setuptools"]["package-data"]["lanpaint_weights"]
    packed = {path.relative_to(WEIGHTS).parts[0] for pattern in patterns for path in WEIGHTS.glob(pattern)}
    assert packed == {*SHIPPED, *SEQUENCES} - {*shipped.WITH_THE_LIBRARY}


def test_an_installation_from_a_checkout_has_every_model(checkout, tmp_path):
    done = _build(checkout, f"build_wheel({str(tmp_path)!r})", small=False)
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    models = {name.split("/")[2] for name in names if name.startswith("lanpaint_toys/weights/")}
    assert models == {*SHIPPED, *SEQUENCES}


def test_weights_are_found_in_their_own_package_and_missing_ones_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_HERE", tmp_path / "installed")
    with pytest.raises(
        ValueError, match=r"the weights of textures are not installed: pip install 'lanpaint\[weights\]'"
    ):
        model_folder("textures")
    (tmp_path / "lanpaint_weights" / "textures").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert model_folder("textures") == str(tmp_path / "lanpaint_weights" / "textures")


def test_the_version_is_the_same_wherever_it_is_written():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert len(citation["references"]) == 4
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{version}]" in changes or f"To become {version}" in changes


def test_lessons_have_links_to_colab_and_binder_where_the_repository_is_on_github(monkeypatch):
    launch = _module(ROOT / "docs" / "launch.py")
    monkeypatch.delenv("LANPAINT_ADDRESS", raising=False)
    monkeypatch.setenv("READTHEDOCS_GIT_CLONE_URL", "git@github.com:owner/lanpaint.git")
    line = launch.links("04_trapped.ipynb", launch.repository(), "v1")
    assert "https://colab.research.google.com/github/owner/lanpaint/blob/v1/notebooks/04_trapped.ipynb" in line
    assert "https://mybinder.org/v2/gh/owner/lanpaint/v1?labpath=notebooks/04_trapped.ipynb" in line
    assert "lanpaint-weights @ git+https://github.com/owner/lanpaint@v1#subdirectory=toy_models/lanpaint_toys/w" in line
    assert launch.links("04_trapped.ipynb", ADDRESS, "v1") is None
    assert launch.links("04_trapped.ipynb", None, "v1") is None
