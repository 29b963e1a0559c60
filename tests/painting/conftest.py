import numpy as np
import pytest

from lanpaint import open_painter
from lanpaint_toys.digits import load_digits


@pytest.fixture(scope="session")
def painter():
    """A painter of the digits model, which paints pictures of 8×8 pixels."""
    return open_painter("digits")


@pytest.fixture(scope="session")
def digits():
    """Held-out digits, uint8 (n, 8, 8)."""
    return ((load_digits("test")[0][:, 0] + 1) * 127.5).round().numpy().astype(np.uint8)


@pytest.fixture(scope="session")
def box():
    """A mask whose middle is painted, uint8 (8, 8)."""
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 255
    return mask
