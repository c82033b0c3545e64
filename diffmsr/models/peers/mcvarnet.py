"""MC-VarNet: a decomposition-based variational network (Lei et al. 2023).

P. Lei, F. Fang, G. Zhang, T. Zeng: "Decomposition-based variational network for multi-contrast MRI super-resolution and
reconstruction", ICCV 2023, pp. 21296-21306.

From the paper: contrasts have consistent information, edges and structures, and inconsistent information. The reference r is
decomposed into a common component z and a unique component u, and only z is transferred to the target x. The variational
model

    min over x, z, u   1/2 |A x - b|^2 + a/2 |r - z - u|^2 + priors of (x, z), z and u

with the acquisition A and the measured b is solved by alternating steps, which are unfolded into a network: each step is a
gradient of a data term with a learned length, and then a learned proximal operator. Here: three iterations with proximal
networks at low resolution, on folded images, of width 32; 0.4 M parameters (Table 1 lists 5.7 M).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmsr import kspace
from diffmsr.models.peers.parts import PeerConfig, Regressor, conv, residual_blocks, silent_conv
from diffmsr.models.registry import register_model


@dataclass(frozen=True)
class MCVarNetConfig(PeerConfig):
    """Width of the proximal networks, and the number of iterations."""

    channels: int = 32
    iterations: int = 3


class Proximal(nn.Module):
    """What a step adds to a variable (b, outputs, h, w), from all that it depends on (b, inputs, h, w). Nothing at first."""

    def __init__(self, inputs: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(inputs, channels), residual_blocks(channels, 1), nn.ReLU(), silent_conv(channels, outputs)
        )

    def forward(self, *variables: Tensor) -> Tensor:
        step: Tensor = self.layers(torch.cat(variables, dim=1))
        return step


class Iteration(nn.Module):
    """One update of u, z and x, all folded to low resolution (b, 2 s s, h, w)."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale, folded = scale, 2 * scale**2
        self.length_x, self.length_z, self.length_u = (nn.Parameter(torch.full((1,), 0.5)) for _ in range(3))
        self.prox_z, self.prox_u = Proximal(2 * folded, channels, folded), Proximal(folded, channels, folded)
        self.prox_x = Proximal(2 * folded + 2, channels, folded)

    def forward(
        self, x: Tensor, z: Tensor, u: Tensor, reference: Tensor, low: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`start` is the zero-filled target, folded."""
        u = u + self.length_u * (reference - z - u)
        u = u + self.prox_u(u)
        z = z + self.length_z * (reference - z - u)
        z = z + self.prox_z(z, x)
        x = x + self.prox_x(x, z, low)
        added = F.pixel_shuffle(x - start, self.scale)
        x = x - self.length_x * F.pixel_unshuffle(measured_part(added, self.scale), self.scale)
        return x, z, u


@register_model(MCVarNetConfig("mcvarnet"))
class MCVarNet(Regressor):
    """x starts as the zero-filled target, z and u as nothing."""

    def __init__(self, config: MCVarNetConfig) -> None:
        super().__init__(config)
        self.iterations = nn.ModuleList(Iteration(config.channels, config.scale) for _ in range(config.iterations))

    def detail(self, low: Tensor, reference: Tensor, skip: Tensor) -> Tensor:
        """x - x_0 after the iterations."""
        s = self.config.scale
        guide, start = F.pixel_unshuffle(reference, s), F.pixel_unshuffle(skip, s)
        x, z, u = start, torch.zeros_like(guide), torch.zeros_like(guide)
        for iteration in self.iterations:
            x, z, u = iteration(x, z, u, guide, low, start)
        return F.pixel_shuffle(x - start, s)


def measured_part(added: Tensor, scale: int) -> Tensor:
    """A'A of an image (b, 2, s h, s w): what the acquisition would have measured of it, the centre of its k-space.

    A zero-filled target is A'b, and A'A leaves it as it is; so A'(A x - b) is that of what was added to it. This also
    holds within a patch, but at its edges.
    """
    rows, columns = added.shape[-2:]
    added = added.float()
    image = torch.complex(added[:, 0], added[:, 1])
    low = kspace.crop(image, rows // scale, columns // scale)
    return torch.view_as_real(kspace.zero_fill(low, rows, columns)).movedim(-1, 1)
