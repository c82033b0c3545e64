"""The sizes DiffMSR comes in."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Preset:
    """Everything that decides the shape of the network. The defaults are the paper's (section 4.2; the extractors from
    its supplement)."""

    name: str
    channels: int = 64
    """C: width of the body, which runs at low resolution."""
    blocks: tuple[int, ...] = (6, 6, 6, 6)
    """Prior-guided blocks in each PLWformer layer."""
    heads: int = 4
    window: int = 16
    """L: side of an attention window, in low-resolution pixels."""
    k: int = 2
    """Token reduction: windows of keys and values are k times smaller to a side (equation 3)."""
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
    scale: int = 4
    """Super-resolution factor in each in-plane direction; the up-sampling tail is built for 4."""

    # What the ablations of Table 2 leave out, and options that the paper does not use.
    reference: bool = True
    """Whether a reference guides; without it there is no CATL."""
    prior: bool = True
    """Whether Z modulates the PLWformer; without it there is no extractor, no diffusion and no second stage."""
    condition: bool = True
    """Whether CE tells the denoiser of the low-resolution target."""
    shift: bool = False
    """Whether every second PLWformer block's windows are shifted by half a window."""
    skip_input: bool = False
    """Whether the network sees the zero-filled target too, folded to low resolution, and not only adds to it: its ringing
    reaches across the image, so what there is to take away from it is hard to tell from a window of pixels."""

    def __post_init__(self) -> None:
        """Raises ValueError for what no network can be built of."""
        for name, k in (("k", self.k), ("cross_k", self.cross_k)):
            if k < 1 or self.window % k or self.channels % k**2:
                raise ValueError(f"{name} = {k}: must divide window {self.window}, its square channels {self.channels}")
        if self.heads < 1 or self.channels % self.heads:
            raise ValueError(f"heads = {self.heads}: must divide channels {self.channels}")
        if self.steps < 1 or self.denoiser_layers < 1:
            raise ValueError("steps and denoiser_layers must be at least 1")
        if self.scale != 4:
            raise ValueError(f"scale = {self.scale}: the up-sampling tail is built for 4")

    @property
    def z_size(self) -> int:
        """Length of the prior the network takes: 0 without one."""
        return self.latent if self.prior else 0


@dataclass(frozen=True)
class CNNPreset:
    """The baseline: a plain residual convolutional network, see `cnn.py`."""

    name: str
    channels: int = 64
    blocks: int = 6
    scale: int = 4
    z_size: int = 0


PAPER = Preset("paper")
PAPER_REFINE = replace(PAPER, name="paper-refine", blocks=(6, 6, 6, 6, 6))
"""With the fifth layer of the published code, there called refinement."""
TINY = Preset(
    "tiny",
    blocks=(2, 2, 2),
    cross_k=2,
    latent=96,
    extractor_width=24,
    extractor_blocks=2,
    reference_width=16,
    tail_width=16,
)

SMALL = replace(TINY, name="small", blocks=(3, 3, 3), cross_k=1, skip_input=True)
"""Sized by what two CPU cores can train. CATL reads the reference pixel by pixel, as in the paper: with cross_k = 2, as in
`tiny`, a query cannot tell which of the four pixels of a cell is its own. Unlike the paper's network it sees the
zero-filled target. docs/ablations.md says what either is worth."""
CNN = CNNPreset("cnn")

PRESETS: dict[str, Preset | CNNPreset] = {preset.name: preset for preset in (PAPER, PAPER_REFINE, SMALL, TINY, CNN)}
