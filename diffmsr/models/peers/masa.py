"""MASA: matching acceleration and spatial adaptation (Lu et al. 2021).

L. Lu, W. Li, X. Tao, J. Lu, J. Jia: "MASA-SR: Matching acceleration and spatial adaptation for reference-based image
super-resolution", CVPR 2021, arXiv:2106.02299.

From the paper: the Match and Extraction Module finds for every target pixel its place in the reference, coarse to fine: the
middle of a block of target pixels is matched first, and each pixel of the block then within a small window around that
match. The Spatial Adaptation Module remaps the distribution of the reference's features to that of the target's. Dual
Residual Aggregation Modules join both at each of three resolutions.

MASA was made for photographs, whose reference shows something similar elsewhere. Here target and reference are registered,
so the coarse match searches around the same place only, and a match further away has to be better (`FAR`). A match brings
one cell of s x s reference pixels, not overlapping patches. Left out: the perceptual and adversarial losses. 0.5 M parameters
(Table 1 lists 4.0 M).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffmsr.models.peers.mcsr import halved
from diffmsr.models.peers.parts import PeerConfig, Regressor, conv, neighbourhoods, residual_blocks, silent_conv, take
from diffmsr.models.registry import register_model

FAR = 0.02
"""What a match loses in cosine similarity per low-resolution pixel of distance."""


@dataclass(frozen=True)
class MASAConfig(PeerConfig):
    """Width at low, double and full resolution, and of the features that are matched; blocks before and after the match."""

    channels: tuple[int, int, int] = (40, 24, 12)
    match_channels: int = 16
    blocks: int = 3
    block: int = 8
    """Side of the blocks of target pixels that the coarse match finds, in low-resolution pixels."""
    coarse_reach: int = 4
    """How far a block's match may be from its own place, along each axis."""
    fine_reach: int = 2
    """How far a pixel's match may be from where its block's match puts it."""


def offsets(reach: int, device: torch.device) -> Tensor:
    """All displacements (n, 2) of at most `reach` pixels along each axis."""
    along = torch.arange(-reach, reach + 1, device=device)
    return torch.cartesian_prod(along, along)


def best_places(query: Tensor, key: Tensor, centre: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """Where each query is found best: of `query` (b, n, c) among the pixels of `key` (b, c, h, w) at `centre` (b, n, 2) +
    `moves` (m, 2), the place (b, n, 2) as row and column, and its cosine similarity (b, n)."""
    h, w = key.shape[-2:]
    places = centre[:, :, None] + moves
    places = torch.stack([places[..., 0].clamp(0, h - 1), places[..., 1].clamp(0, w - 1)], dim=-1)
    index = rearrange(places[..., 0] * w + places[..., 1], "b n m -> b 1 (n m)").expand(-1, key.shape[1], -1)
    candidates = rearrange(
        rearrange(key, "b c h w -> b c (h w)").gather(2, index), "b c (n m) -> b n m c", m=len(moves)
    )
    similarity = (candidates @ query[..., None]).squeeze(-1)
    distance = moves.float().norm(dim=1)
    best = (similarity.detach() - FAR * distance).argmax(dim=2, keepdim=True)
    place = places.gather(2, best[..., None].expand(-1, -1, -1, 2)).squeeze(2)
    return place, similarity.gather(2, best).squeeze(2)


class Match(nn.Module):
    """Target (b, 2, h, w) and reference of the same size to the place of each target pixel in the reference (b, h, w), as
    y * w + x, and the similarity there (b, 1, h, w)."""

    def __init__(self, config: MASAConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(conv(2, config.match_channels), residual_blocks(config.match_channels, 1))

    def forward(self, target: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        p, (h, w), device = self.config, target.shape[-2:], target.device
        query, key = (neighbourhoods(self.encoder(image), 3) for image in (target, reference))
        grid = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), dim=-1).to(device)
        middle = slice(p.block // 2, None, p.block)
        middles = rearrange(grid[middle, middle], "y x two -> 1 (y x) two").expand(len(target), -1, -1)
        of_blocks = rearrange(query[..., middle, middle], "b c y x -> b (y x) c")
        found, _ = best_places(of_blocks, key, middles, offsets(p.coarse_reach, device))
        moved = rearrange(found - middles, "b (y x) two -> b y x two", y=h // p.block)
        moved = moved.repeat_interleave(p.block, 1).repeat_interleave(p.block, 2)
        expected = rearrange(grid + moved, "b h w two -> b (h w) two")
        place, similarity = best_places(
            rearrange(query, "b c h w -> b (h w) c"), key, expected, offsets(p.fine_reach, device)
        )
        flat = place[..., 0] * w + place[..., 1]
        return flat.view(-1, h, w), similarity.view(-1, 1, h, w)


class SpatialAdaptation(nn.Module):
    """gain * IN(reference) + shift (b, c, h, w): the reference's features, standardised, with the mean and deviation of the
    target's and what a convolution of both adds to these at each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.both = conv(2 * channels, 2 * channels)

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        gain, shift = self.both(torch.cat([target, reference], dim=1)).chunk(2, dim=1)
        gain = gain + target.std(dim=(2, 3), keepdim=True)
        shift = shift + target.mean(dim=(2, 3), keepdim=True)
        adapted: Tensor = gain * F.instance_norm(reference) + shift
        return adapted


class DualResidual(nn.Module):
    """Target (b, c, h, w) and reference (b, d, 2 h, 2 w) to (b, d, 2 h, 2 w). Each is sharpened by what the other lacks:
    target + (target - down(reference)), and reference + (reference - up(target)); then a convolution joins them."""

    def __init__(self, channels: int, guide: int) -> None:
        super().__init__()
        self.down = conv(guide, channels, stride=2)
        self.up, self.up_sharp = (nn.Sequential(conv(channels, 4 * guide), nn.PixelShuffle(2)) for _ in range(2))
        self.adapt = SpatialAdaptation(guide)
        self.join = nn.Sequential(conv(2 * guide, guide), nn.ReLU(), residual_blocks(guide, 1))

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        enlarged = self.up(target)
        guide = self.adapt(enlarged, reference)
        sharp_target = self.up_sharp(2 * target - self.down(guide))
        joined: Tensor = self.join(torch.cat([sharp_target, 2 * guide - enlarged], dim=1))
        return joined


@register_model(MASAConfig("masa"))
class MASA(Regressor):
    """Figure 2 of the paper, at three resolutions."""

    multiple = 8
    config: MASAConfig

    def __init__(self, config: MASAConfig) -> None:
        super().__init__(config)
        if config.block != self.multiple:
            raise ValueError(f"block = {config.block}: it must be {self.multiple}")
        one, two, four = config.channels
        self.match = Match(config)
        self.head = nn.Sequential(conv(2 + 2 * config.scale**2, one), residual_blocks(one, config.blocks))
        self.reference_4 = nn.Sequential(conv(2, four), residual_blocks(four, 1))
        self.reference_2 = nn.Sequential(conv(four, two, stride=2), residual_blocks(two, 1))
        self.reference_1 = nn.Sequential(conv(two, one, stride=2), residual_blocks(one, 1))
        self.adapt = SpatialAdaptation(one)
        self.body = nn.Sequential(conv(2 * one, one), residual_blocks(one, config.blocks))
        self.to_double, self.to_full = DualResidual(one, two), DualResidual(two, four)
        self.tail = silent_conv(four, 2)

    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """Match, take the reference's features from there, and join them at rising resolution."""
        place, similarity = self.match(low, halved(halved(reference)))
        guide_4 = self.reference_4(reference)
        guide_2 = self.reference_2(guide_4)
        guide_1 = self.reference_1(guide_2)

        def matched(guide: Tensor, factor: int) -> Tensor:
            return F.pixel_shuffle(take(F.pixel_unshuffle(guide, factor), place) * similarity, factor)

        x = self.head(self.folded_target(low, skip))
        x = x + self.body(torch.cat([x, self.adapt(x, matched(guide_1, 1))], dim=1))
        x = self.to_full(self.to_double(x, matched(guide_2, 2)), matched(guide_4, 4))
        out: Tensor = self.tail(x)
        return out
