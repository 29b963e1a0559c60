"""Where pictures lie in the latents of a modular pipeline, learned from the blocks after its loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lanpaint.adapters.bridge.call import CALLED_BY
from lanpaint.adapters.latents import CellRule, LatentLayout, wholly_known
from lanpaint.adapters.modular.blocks import after, decoder_input
from lanpaint.adapters.tail import Caught, EncodedPrompts, NoTailError, Probe
from lanpaint.adapters.tail_map import learn_map


class ModularLayout(LatentLayout):
    """How a modular pipeline lays out pictures in its latents.

    Args:
        pipe: The pipeline.
        cell_rule: As of :class:`~lanpaint.adapters.latents.LatentLayout`.

    Attributes:
        tail: The blocks after the loop, and the state with which it starts. By default those of the call in which the
            pipeline is.
    """

    def __init__(self, pipe: Any, cell_rule: CellRule = wholly_known) -> None:
        super().__init__(pipe, cell_rule)
        self.tail: tuple[list[Any], Any] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """None: the size is an argument of the call."""
        return None

    def _takes_size(self) -> bool:
        """Whether the network has more channels than the decoder: it folds cells into tokens."""
        network = getattr(self.pipe, "transformer", None)
        channels = getattr(getattr(network, "config", None), "in_channels", None)
        config = getattr(self.vae, "config", {})
        own = next((config[name] for name in ("z_dim", "latent_channels") if config.get(name)), None)
        return isinstance(channels, int) and isinstance(own, int) and channels > own

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] as input of the VAE, in [−1, 1] unless the pipeline's processor says otherwise."""
        settings = getattr(self.processor, "config", {})
        return 2 * pictures - 1 if settings.get("do_normalize", True) else pictures

    def learn(self, call: dict[str, Any], prompts: EncodedPrompts | None = None) -> None:
        """Forget the layout: the blocks after the loop are run when the loop starts, in :meth:`prepare`."""
        self.learned = None

    def prepare(self, latents: Tensor) -> None:
        """Learn the layout from the blocks after the loop, for the latents with which the loop starts."""
        if self.tail is None:
            bridge = vars(self.pipe)[CALLED_BY]
            blocks, state = after(self.pipe._blocks, bridge.loop), bridge.state
        else:
            blocks, state = self.tail

        call = id(state), latents.shape
        if self.learned is not None and self._learned_for == call:
            return

        def tail(probe: Probe) -> Caught:
            given = decoder_input(self.pipe, blocks, state, probe(latents.float()))
            return Caught(tuple(latents.shape), latents.dtype, given)

        try:
            self.learned, self.reason, self._learned_for = learn_map(tail), "", call
        except NoTailError as error:
            raise ValueError(
                f"where a picture lies in the latents of {type(self.pipe).__name__} is not known: {error}; give "
                "bridged an observation of its latents"
            ) from None
