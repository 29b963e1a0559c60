"""``lanpaint verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from lanpaint.names import DYNAMICS, make_dynamics


def verify(
    dynamics: Annotated[
        str, typer.Argument(help=f"{', '.join(DYNAMICS)}, or your own one as module:name of the current folder.")
    ],
    friction: Annotated[
        float | None, typer.Option(help="Friction γ [the dynamics' default].", show_default=False)
    ] = None,
) -> None:
    """Check a dynamics by exact algebra and on rare modes: what it leaves invariant, its order, where it breaks.

    Takes some seconds. The exit status is 1 where a problem is found.
    """
    from lanpaint.verification import verify as check

    found = check(make_dynamics(dynamics, friction))
    print(found)
    if not found.passed:
        raise typer.Exit(1)
