"""What pyproject.toml cannot say: the data of a wheel, the project's addresses, and README.md with links that work.

The repository does not know where it is published. The environment variable LANPAINT_ADDRESS says it at build time,
such as https://example.org/owner/lanpaint; ``make dist ADDRESS=…`` sets it, and the release workflow does. Then links
and pictures of the long description point to the files of the version's tag. Without it a picture is replaced by the
words that describe it, and a link by its text, so nothing in the description is broken. A source archive keeps what it
was built with.

A wheel that is built from a checkout holds all weights, so that ``pip install .`` gives a library with its models. With
LANPAINT_SMALL=1, which ``make dist`` sets, it holds those of digits alone. The package lanpaint-weights has the others.
"""

import os
import re
from email import message_from_string
from pathlib import Path
from urllib.parse import urlsplit

from setuptools import setup

ROOT = Path(__file__).parent
DATA = ["py.typed", "adapters/tested.json", "bench/papers/*.yaml", "serve/page/**/*"]
WEIGHTS = ["weights/digits/**/*"]
OTHER_WEIGHTS = ["weights/emoji-*/**/*", "weights/motion/**/*", "weights/textures/**/*"]
PART = re.compile(
    r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)[^\S\n]*$|(?P<tick>`+)(?!`)[^\n]*?(?<!`)(?P=tick)(?!`))"
    r"|(?P<picture>!)?\[(?P<text>(?:`[^`\n]*`|!\[[^\[\]]*\]\([^()\s]+\)|[^\[\]])*)\]\((?P<place>[^()\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


def absolute(text: str, address: str | None, tag: str) -> str:
    """Return Markdown whose relative links and pictures are absolute, or without them if there is no address.

    Args:
        text: A page at the root of the repository.
        address: Address of the repository, without a slash at its end.
        tag: Tag whose files are meant.
    """

    def replace(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match[0]
        words = PART.sub(replace, match["text"])
        if re.match(r"[a-z][a-z+.-]*:", match["place"]):
            return f"{match['picture'] or ''}[{words}]({match['place']})"
        if address is None:
            return f"*{words}*" if match["picture"] else words
        kind = "raw" if match["picture"] else "tree" if (ROOT / match["place"]).is_dir() else "blob"
        place = f"README.md{match['place']}" if match["place"].startswith("#") else match["place"]
        return f"{match['picture'] or ''}[{words}]({address}/{kind}/{tag}/{place})"

    return PART.sub(replace, text)


def urls(address: str, tag: str) -> dict[str, str]:
    """Return the addresses that an index shows, by the labels that it knows."""
    return {
        "Homepage": address,
        "Source": address,
        "Documentation": f"{address}/tree/{tag}/docs",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def find_address() -> str | None:
    """Return the address from the environment, without a slash at its end; None if it is not set.

    Raises:
        SystemExit: If it is no address of the web.
    """
    address = os.environ.get("LANPAINT_ADDRESS", "").strip().rstrip("/").removesuffix(".git")
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.netloc or not parts.path.strip("/") or re.search(r"[\s?#]", address):
        raise SystemExit(f"LANPAINT_ADDRESS is {address}, expected one such as https://example.org/owner/lanpaint")
    return address


def metadata() -> tuple[str, dict[str, str]]:
    """Return the long description and the addresses: those of the source archive, or made anew from the checkout."""
    kept = ROOT / "PKG-INFO"
    if kept.is_file():
        message = message_from_string(kept.read_text(encoding="utf-8"))
        lines = message.get_all("Project-URL", [])
        return message.get_payload(), dict(line.split(", ", 1) for line in lines)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    address, tag = find_address(), f"v{version}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return absolute(readme, address, tag), urls(address, tag) if address else {}


if __name__ == "__main__":
    description, addresses = metadata()
    small = os.environ.get("LANPAINT_SMALL", "") not in ("", "0")
    setup(
        long_description=description,
        long_description_content_type="text/markdown",
        project_urls=addresses,
        package_data={"lanpaint": DATA, "lanpaint_toys": WEIGHTS if small else WEIGHTS + OTHER_WEIGHTS},
    )
