"""The sizes DiffMSR comes in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from diffmsr.models.protocol import ModelConfig

RATIOS = (1, 2, 4)
"""k of Table 3."""


@dataclass(frozen=True)
class DiffMSRConfig(ModelConfig):
    """Everything that decides the shape of the network. The defaults are the paper's (section 4.2). Those of the two
    extractors are from its supplement. The up-sampling tail is built for a scale of 4."""

    channels: int = 64
    """C: width of the body, which runs at low resolution."""
    blocks: tuple[int, ...] = (6, 6, 6, 6)
    """Prior-guided blocks in each PLWformer layer."""
    heads: int = 4
    window: int = 16
    """L: side of an attention window, in low-resolution pixels."""
    k: int = 2
    """Token reduction: windows of keys and values have sides k times smaller (equation 3)."""
    expansion: float = 2.2
    """Hidden over outer channels of the feed-forward networks."""
    cross_blocks: int = 2
    """Cross-attention blocks that fuse target and reference (CATL)."""
    cross_k: int = 1
    """k of those blocks."""
    latent: int = 256
    """Length of the prior Z, the paper's 4 * C-hat."""
    extractor_width: int = 64
    extractor_blocks: int = 9
    """Residual blocks of PE and CE."""
    reference_width: int = 64
    """Channels of the reference embedding before its last convolution."""
    tail_width: int = 64
    """Channels of the reconstruction after each pixel shuffle."""
    steps: int = 4
    """T of the diffusion."""
    denoiser_layers: int = 5

    # The ablations of Table 2 switch these off. The paper does not use the last five.
    reference: bool = True
    """Whether a reference guides. Without one there is no CATL."""
    prior: bool = True
    """Whether Z modulates the PLWformer. Without it there is no extractor, no diffusion and no second stage."""
    condition: bool = True
    """Whether CE gives the denoiser a summary of the low-resolution target."""
    shift: bool = False
    """Whether the windows of every second PLWformer block are shifted by half a window."""
    acquisition: bool = False
    """Whether a small network turns the facts of the acquisition into a latent that is added to the prior, or stands for
    it where there is none."""
    live: bool = False
    """Whether the extractors start so that Z differs from slice to slice; see `live.py`."""
    gated_prior: bool = False
    """Whether each element of the prior has a weight, which starts at zero: a network that has learnt without a prior then
    begins as it was."""
    skip_input: bool = False
    """Whether the network sees the zero-filled target too, folded to low resolution, and does not only add to it. The
    target's ringing reaches across the image, so a window of low-resolution pixels hardly shows what to remove."""

    stage_two_fields: ClassVar[frozenset[str]] = frozenset({"steps", "condition", "denoiser_layers"})

    def __post_init__(self) -> None:
        """Raises ValueError for fields from which no network can be built."""
        for name, k in (("k", self.k), ("cross_k", self.cross_k)):
            if k < 1 or self.window % k or self.channels % k**2:
                raise ValueError(
                    f"{name} = {k} must divide window ({self.window}), and its square channels ({self.channels})"
                )
        if self.heads < 1 or self.channels % self.heads:
            raise ValueError(f"heads = {self.heads} must divide channels ({self.channels})")
        if self.steps < 1 or self.denoiser_layers < 1:
            raise ValueError("steps and denoiser_layers must be at least 1")
        if self.scale != 4:
            raise ValueError(f"scale = {self.scale}: the up-sampling tail is built for 4")

    @property
    def stages(self) -> int:
        """Two; without a prior, one."""
        return 2 if self.prior else 1

    @property
    def smallest_side(self) -> int:
        """One attention window."""
        return self.window

    @property
    def z_size(self) -> int:
        """Length of the prior the network takes: 0 without one."""
        return self.latent if self.prior else 0

    @property
    def modulation(self) -> int:
        """Length of the latent that modulates the PLWformer: 0 where neither prior nor acquisition does."""
        return self.latent if self.prior or self.acquisition else 0

    def variants(self) -> Mapping[str, ModelConfig]:
        """The ratios of Table 3."""
        return {f"k = {k}": replace(self, k=k) for k in RATIOS}


PAPER = DiffMSRConfig("paper")
PAPER_REFINE = replace(PAPER, name="paper-refine", blocks=(6, 6, 6, 6, 6))
"""With the fifth layer of the published code, which is called refinement there."""
TINY = DiffMSRConfig(
    "tiny",
    blocks=(2, 2, 2),
    cross_k=2,
    latent=96,
    extractor_width=24,
    extractor_blocks=2,
    reference_width=16,
    tail_width=16,
)
SMALL = replace(TINY, name="small", blocks=(3, 3, 3), cross_k=1, skip_input=True, acquisition=True)
"""As large as two CPU cores can train. CATL reads the reference pixel by pixel, as in the paper: with cross_k = 2, as in
`tiny`, a query cannot tell which of the four pixels of a cell is its own. Unlike the paper's network it sees the
zero-filled target, and it is told how the target was acquired. docs/ablations.md and docs/acquisition.md give the worth
of each."""
SMALL_LIVE = replace(SMALL, name="small-live", live=True)
"""`small` with a prior that tells slices apart from the start. `config/small-live.toml` trains it from random weights."""
SMALL_GATED = replace(SMALL_LIVE, name="small-gated", gated_prior=True)
"""`small-live` for weights that have learnt without a prior: it begins as they were. `config/small-gated.toml` trains it."""
SMALL_WITHOUT_DIFFUSION = replace(SMALL, name="small-without-diffusion", prior=False)
"""`small` without prior. It is told of the acquisition too, so the comparison shows what the diffusion adds to that."""
