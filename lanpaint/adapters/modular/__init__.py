"""Modular pipelines of diffusers: pipelines that are put together of blocks, with the denoising loop as one of them.

    blocks    what a modular pipeline takes, where its loop is, and what comes after it
    layout    how pictures lie in its latents, learnt from the blocks after the loop
    score     the network as a score with a gradient, by the blocks of the loop
    step      LanPaint as a block, for pipelines that are put together by hand

:class:`~lanpaint.Inpainter` and :func:`~lanpaint.bridged` take a modular pipeline as any other.
"""
