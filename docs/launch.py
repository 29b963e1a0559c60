"""Links that open a lesson without an installation. They need the repository's address, which only a build knows."""

import os
import re
from urllib.parse import urlsplit


def repository() -> str | None:
    """Return the address from the environment: LANPAINT_ADDRESS, or what Read the Docs has cloned."""
    found = os.environ.get("LANPAINT_ADDRESS") or os.environ.get("READTHEDOCS_GIT_CLONE_URL") or ""
    return re.sub(r"^git@([^:]+):", r"https://\1/", found).rstrip("/").removesuffix(".git") or None


def links(name: str, address: str | None, ref: str) -> str | None:
    """Return a line of Markdown for a lesson, or None: Colab and Binder open what is on GitHub.

    Args:
        name: File of the lesson, in the folder ``notebooks``.
        address: Address of the repository.
        ref: Tag, branch or commit.
    """
    parts = urlsplit(address or "")
    if parts.netloc != "github.com":
        return None
    place, source = parts.path.strip("/"), f"git+{address}@{ref}"
    return (
        f"[Open in Colab](https://colab.research.google.com/github/{place}/blob/{ref}/notebooks/{name}) · "
        f"[Open in Binder](https://mybinder.org/v2/gh/{place}/{ref}?labpath=notebooks/{name})\n\n"
        f'Colab first needs `%pip install "lanpaint[pipelines] @ {source}" '
        f'"lanpaint-weights @ {source}#subdirectory=toy_models/lanpaint_toys/weights"`.'
    )
