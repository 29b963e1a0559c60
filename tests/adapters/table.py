"""The table of family × scheduler in docs/use-with-your-model.md.

``python -m tests.adapters.table`` runs every family with every scheduler that it may take, and writes the table into
the page. A combination counts when a picture is painted to its end, in finite numbers, with as many network calls as
were planned and the known latents exact.
"""

import functools
import logging
import re
from pathlib import Path

import numpy as np
import torch

import lanpaint as lp
from lanpaint.adapters.scheduler_names import FLOW_SCHEDULERS, SCHEDULERS, named_scheduler
from tests.adapters import tiny

PAGE = Path(__file__).parents[2] / "docs" / "use-with-your-model.md"
MARKS = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
NAMES = list(dict.fromkeys([*SCHEDULERS, *FLOW_SCHEDULERS]))


class Keep(lp.Callback):
    """Keeps the last state and the observation."""

    def on_level_end(self, sampler, state):
        self.x, self.observation = state.x, state.observation


def runs(made, name):
    """Whether a family paints with the scheduler of a name."""
    own, keep = made.pipe.scheduler, Keep()
    mask = torch.zeros(made.size[-2:])
    mask[:, made.size[-1] // 2 :] = 1
    picture = torch.rand(made.channels, *made.size, generator=torch.Generator().manual_seed(0))
    picture = picture.transpose(0, 1) if len(made.size) == 3 else picture
    call = {key: value for key, value in made.call.items() if key not in ("height", "width", "num_frames")}
    calls = []
    hooks = [getattr(made.pipe, part).register_forward_hook(lambda *_: calls.append(1)) for part in made.networks]
    try:
        made.pipe.scheduler = named_scheduler(name, own)
        inpaint = lp.Inpainter(made.pipe, inner_steps=1, callbacks=[keep])
        options = {"steps": 4, "generator": torch.Generator().manual_seed(0), "output_type": "np"}
        painted = inpaint(picture, mask, **options, **call, **made.extra)[0]
    except (ValueError, TypeError, AssertionError):  # refused by us, or by the pipeline as it would be without us
        return False
    finally:
        made.pipe.scheduler = own
        for hook in hooks:
            hook.remove()
    known = keep.observation.known.expand(keep.x.shape)
    assert torch.equal(keep.x[known], keep.observation.values[known])
    assert np.isfinite(painted).all()
    assert len(calls) == made.calls_per_evaluation * inpaint.bridge.planned
    return True


@functools.cache
def row(family):
    """Marks of a family, one per scheduler."""
    made = tiny.FAMILIES[family]()
    return ["✓" if runs(made, name) else "" for name in NAMES]


def table(families):
    """The table of some families in Markdown."""
    lines = ["| | " + " | ".join(f"`{name}`" for name in NAMES) + " |", "|---" * (len(NAMES) + 1) + "|"]
    return "\n".join([*lines, *(f"| {family} | " + " | ".join(row(family)) + " |" for family in families)])


def main():
    """Write the table into the page."""
    logging.disable(logging.WARNING)
    text = PAGE.read_text(encoding="utf-8")
    made = table(tiny.FAMILIES)
    PAGE.write_text(MARKS.sub(lambda marks: f"{marks[1]}\n{made}\n\n{marks[2]}", text), encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
