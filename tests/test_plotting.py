"""Pictures that are stepped through."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from lanpaint.plotting import film, new_figure


def test_a_film_holds_every_frame_as_it_was_drawn():
    figure = new_figure(figsize=(1, 1))
    axis = figure.subplots()
    axis.set_axis_off()

    def draw(number):
        axis.clear()
        axis.imshow(np.full((2, 2), number), cmap="gray", vmin=0, vmax=2)
        axis.set_axis_off()

    page = film(figure, draw, 3).data
    assert "http" not in re.sub(r"http://www.w3.org\S*", "", page)  # nothing is fetched
    assert "fa-" not in page
    frames = re.findall(r'frames\[\d+\] = "data:image/png;base64,([^"]+)"', page)
    pictures = [Image.open(io.BytesIO(base64.b64decode(re.sub(r"[\\\s]", "", frame)))).convert("L") for frame in frames]
    middles = [picture.getpixel((picture.width // 2, picture.height // 2)) for picture in pictures]
    assert middles == [0, 127, 255] or middles == [0, 128, 255]
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        film(figure, draw, 0)
