"""A folder painted by Lightning: devices, nodes, strategies, precision and Slurm are Lightning's.

.. code-block:: python

    from lightning.pytorch import Trainer
    from lanpaint.painting.lightning import PaintingModule, PictureFolder, PictureWriter

    trainer = Trainer(devices=8, num_nodes=4, callbacks=[PictureWriter("out/")], logger=False)
    trainer.predict(PaintingModule("emoji-pixel"), PictureFolder("in/", "masks/"), return_predictions=False)

The output folder, its ledger and what a result depends on are those of :func:`lanpaint.paint_folder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from lanpaint.checks import check_whole
from lanpaint.painting.entries import Entry, batches, check_apart, list_entries
from lanpaint.painting.folder import Summary, Worker
from lanpaint.painting.painter import Painter, open_painter

try:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.callbacks import BasePredictionWriter
except ImportError as error:
    raise ImportError("this needs Lightning: pip install 'lanpaint[train]'") from error


class PaintingModule(LightningModule):
    """A painter as Lightning predicts with it. A batch is a sequence of entries of a :class:`PictureFolder`.

    Args:
        model: As in :func:`lanpaint.open_painter`. It is opened on the device of the process.
        scheduler: As in :func:`lanpaint.open_painter`.
        dtype: Name of the network's dtype: float32, float16 or bfloat16.
        most: As in :func:`lanpaint.open_painter`.

    Raises:
        ValueError: For an unknown dtype.
    """

    def __init__(
        self, model: str = "digits", scheduler: str | None = None, dtype: str = "float32", most: int | None = None
    ) -> None:
        import torch

        super().__init__()
        if dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"dtype must be float32, float16 or bfloat16, got {dtype!r}")
        self._opened: dict[str, Any] = {
            "model": model,
            "scheduler": scheduler,
            "dtype": getattr(torch, dtype),
            "most": most,
        }
        self.painter: Painter | None = None
        self.worker: Worker | None = None

    def setup(self, stage: str) -> None:
        """Opens the painter on this process's device."""
        if self.painter is None:
            self.painter = open_painter(**self._opened, device=self.trainer.strategy.root_device)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """The batch as it is: the painter reads its pictures."""
        return batch

    def predict_step(self, batch: Sequence[Entry], batch_idx: int) -> list[tuple[Entry, Any]]:
        """The entries with their results, or with the reason why one failed; none for those that are there already."""
        assert self.painter is not None
        if self.worker is None:
            outcomes = self.painter.attempt_many([entry.task for entry in batch])
            return list(zip(batch, outcomes, strict=True))
        mine, _ = self.worker.claim(batch)
        needed = {entry.output for entry in mine}
        return [one for one in self.worker.paint(batch) if one[0].output in needed] if needed else []


class PictureFolder(LightningDataModule):
    """The pictures of a folder or a manifest, in batches of one size.

    Args:
        pictures: As in :func:`lanpaint.paint_folder`.
        masks: As in :func:`lanpaint.paint_folder`.
        prompt: What to paint; only for pipelines.
        seed: Seed of the run.
        settings: As in :class:`lanpaint.Task`.
        batch: Pictures in a batch.

    Raises:
        ValueError: As :func:`lanpaint.paint_folder`.
    """

    def __init__(
        self,
        pictures: str,
        masks: str | None = None,
        prompt: str | None = None,
        seed: int = 0,
        settings: dict[str, Any] | None = None,
        batch: int = 16,
    ) -> None:
        super().__init__()
        check_whole("batch", batch, least=1)
        self.entries = list_entries(pictures, masks, prompt=prompt, seed=seed, settings=settings)
        self.batch = batch

    def predict_dataloader(self) -> DataLoader[Any]:
        """A loader whose items are whole batches, which Lightning shares among the processes."""
        whole: Any = list(batches(self.entries, self.batch))
        return DataLoader(whole, batch_size=1, collate_fn=_only)


def _only(items: list[Any]) -> Any:
    return items[0]


class PictureWriter(BasePredictionWriter):
    """Writes what a :class:`PaintingModule` has painted into an output folder, and skips what is there.

    Args:
        out: The output folder.
        verify: Whether what is there already is compared by content.

    Attributes:
        summary: What this process has done; complete when the run has ended.
    """

    def __init__(self, out: str, verify: bool = False) -> None:
        super().__init__(write_interval="batch")
        self.out, self.verify = out, verify
        self.summary = Summary()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the output folder.

        Raises:
            ValueError: When an output would be written over a picture or a mask.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if isinstance(data, PictureFolder):
            check_apart(data.entries, Path(self.out))
        painter: Any = pl_module.painter
        worker = Worker(painter, self.out, self.verify)
        pl_module.worker = worker  # type: ignore[assignment]
        self._worker, self.summary = worker, worker.summary

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Writes the pictures of a batch."""
        for entry, outcome in prediction:
            self._worker.keep(entry, outcome)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the output folder.

        Raises:
            RuntimeError: When a picture failed, so that the process ends with another status than 0.
        """
        self._worker.__exit__(None, None, None)
        if self.summary.failed:
            first, reason = next(iter(self.summary.reasons.items()))
            raise RuntimeError(f"{self.out}: {self.summary}; {first}: {reason}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the output folder of a run that was broken off."""
        if getattr(self, "_worker", None) is not None:
            self._worker.__exit__(None, None, None)
