"""A Gaussian process fitted to the known part, on real motion: a table of docs/motion.md.

    python docs/studies/fitted.py

Gaps in the middle of the held-out series of BasicMotions (40 series, 6 channels, 100 steps of 0.1 s) and GunPoint (150
series, 1 channel, 150 steps). Both come with sktime. The model is fitted to what is known: of each series of
BasicMotions alone, as of a file, and of all series of GunPoint together, which are of one kind. Two completions of each
by LanPaint with its defaults. The unit is the standard deviation of a channel over all series.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

import lanpaint as lp
from lanpaint.metrics.series import join_ratio
from lanpaint_toys import motion

FILLS = 2


def gunpoint() -> np.ndarray:
    """The test series of GunPoint, (150, 150, 1)."""
    from sktime.datasets import load_gunpoint

    series, _ = load_gunpoint("test", return_X_y=True, return_type="numpy3D")
    return np.asarray(series, dtype=np.float64).transpose(0, 2, 1)


def straight(values: np.ndarray, first: int, last: int) -> np.ndarray:
    """A line over a gap, twice."""
    share = (np.arange(first, last) - first + 1)[:, None] / (last - first + 1)
    made = values.copy()
    made[:, first:last] = (1 - share) * values[:, [first - 1]] + share * values[:, [last]]
    return np.stack([made] * FILLS)


def fitted(values: np.ndarray) -> np.ndarray:
    """Completions (2, N, T, C) by a model that is fitted to the same values."""
    return lp.complete_series(values, lp.FittedGaussian(values), count=FILLS)


def figures(truth: np.ndarray, made: np.ndarray, first: int, last: int) -> str:
    """Cells of a row: error, spread over error, and jump over that of the truth, with standard errors over series."""
    scale = truth.std((0, 1))
    off = np.sqrt((((made - truth) / scale)[:, :, first:last] ** 2).mean((0, 2, 3)))
    apart = np.sqrt((((made[0] - made[1]) / scale)[:, first:last] ** 2).mean() / 2)
    known = torch.ones(truth.shape[2], truth.shape[1], dtype=torch.bool)
    known[:, first:last] = False
    x, true = (torch.from_numpy(some / scale).mT for some in (np.concatenate(made), np.concatenate([truth] * FILLS)))
    order = torch.arange(len(x)).view(FILLS, -1).T.flatten()  # completions of one truth in a row
    jump, error = join_ratio(x[order], true[order], known, FILLS)
    mean = np.sqrt((((made - truth) / scale)[:, :, first:last] ** 2).mean())
    return f"{off.mean():.2f} ± {off.std() / len(off) ** 0.5:.2f} | {apart / mean:.2f} | {jump:.2f} ± {error:.2f}"


def main() -> None:
    """Print the table."""
    shipped = lp.load_series_model(motion.FOLDER)
    records = {"BasicMotions": motion.load_motion("test")[0].mT.double().numpy(), "GunPoint": gunpoint()}
    warnings.simplefilter("ignore")
    print("| data | gap | | error | spread | jump |\n|---|---|---|---|---|---|")
    for name, truth in records.items():
        for gap in (5, 20):
            first = (truth.shape[1] - gap) // 2
            given = truth.copy()
            given[:, first : first + gap] = np.nan
            ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
                "a line": lambda given, first=first, gap=gap: straight(given, first, first + gap),
                "fitted": fitted,
            }
            if name == "BasicMotions":
                ways["fitted"] = lambda given: np.stack([fitted(one) for one in given], 1)
                ways["the shipped network"] = lambda given: lp.complete_series(given, shipped, count=FILLS)
            for way, complete in ways.items():
                made = complete(given)
                print(f"| {name} | {gap} | {way} | {figures(truth, made, first, first + gap)} |", flush=True)


if __name__ == "__main__":
    main()
