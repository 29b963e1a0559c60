"""Where the weights lie that come with the project.

A checkout has all of them, in the folder ``weights`` beside this file. They are 30 MB, so an installed `lanpaint` holds
`digits` alone, and the package ``lanpaint-weights`` brings the others. That package is made of the same folder.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

WITH_THE_LIBRARY = ("digits",)
"""The models whose weights are in the wheel of `lanpaint` itself."""

_HERE = Path(__file__).parent / "weights"


def weights_folder(name: str) -> Path:
    """Return the folder of a model's weights. If they are nowhere, it is where a checkout would have them."""
    extra = find_spec("lanpaint_weights")
    places = [_HERE, *(Path(place) for place in (extra.submodule_search_locations or () if extra else ()))]
    return next((place / name for place in places if (place / name).is_dir()), _HERE / name)
