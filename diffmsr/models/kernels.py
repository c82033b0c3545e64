"""Kernels that the fast path of any network may use."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

GRAPHS = 8
"""Number of input shapes for which a CUDA graph is kept."""


class Folded(nn.Module):
    """An affine `function` of (b, h, w, inputs) as one convolution, with separate kernels along the borders.

    `function` is any chain of convolutions with a field of view of `taps` x `taps` pixels and a total stride of `stride`.
    It is shift invariant except in its first and last row and column, where the zero padding between its layers differs
    from padding its input. The kernels of an affine map are its derivatives. They are computed on the smallest image that
    has an inner pixel and both borders.
    """

    @torch.inference_mode(mode=False)  # inference mode would give no derivatives, without an error
    def __init__(self, function: nn.Module, inputs: int, taps: int, stride: int) -> None:
        super().__init__()
        self.taps, self.stride = taps, stride
        exact = copy.deepcopy(function).double()
        side = taps + stride - 1
        nothing = torch.zeros(1, side, side, inputs, dtype=torch.float64, device=next(function.parameters()).device)

        def places(x: Tensor) -> Tensor:
            out: Tensor = exact(x)[0]
            kept = [0, out.shape[0] // 2, -1]
            return out[kept][:, kept]

        bias = places(nothing)
        slopes: Tensor = torch.autograd.functional.jacobian(places, nothing)  # type: ignore[no-untyped-call]
        windows = (slice(taps), slice(taps), slice(side - taps, side))
        for row, rows in enumerate(windows):
            for column, columns in enumerate(windows):
                kernel = rearrange(slopes[row, column, :, 0, rows, columns], "o h w i -> o i h w")
                self.register_buffer(f"kernel_{row}{column}", kernel.float().contiguous())
                self.register_buffer(f"bias_{row}{column}", bias[row, column].float())

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b h w c -> b c h w")
        out = self._convolve(x, 1, 1)
        for row, column in ((0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (0, 2), (2, 0), (2, 2)):
            strip = x[:, :, self._window(row), self._window(column)]
            out[:, :, _PLACE[row], _PLACE[column]] = self._convolve(strip, row, column)
        return rearrange(out, "b c h w -> b h w c")

    def _convolve(self, x: Tensor, row: int, column: int) -> Tensor:
        kernel, bias = self.get_buffer(f"kernel_{row}{column}"), self.get_buffer(f"bias_{row}{column}")
        padding = [self.taps // 2 if place == 1 else 0 for place in (row, column)]
        if column != 1 and x.device.type == "cpu":
            # In bfloat16, oneDNN gives what was in memory before for an image as wide as the kernel (PyTorch 2.13, AMX).
            made = F.conv2d(x.float(), kernel.float(), bias.float(), self.stride, padding)
            return made.to(x.dtype)
        return F.conv2d(x, kernel, bias, self.stride, padding)

    def _window(self, place: int) -> slice:
        return (slice(self.taps), slice(None), slice(-self.taps, None))[place]


_PLACE = (slice(0, 1), slice(None), slice(-1, None))
"""The first, inner and last rows or columns of an output. The inner kernel is written first, everywhere."""


class FastLinear(nn.Linear):
    """A linear layer. In float32 on a CPU it uses oneDNN. `F.linear` uses MKL, which took more than twice as long on AMD
    processors."""

    def forward(self, x: Tensor) -> Tensor:
        if by_onednn(x):
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return out
        return super().forward(x)


class Replayed(nn.Module):
    """A network on a GPU as one CUDA graph per shape of its inputs. A call is then one launch instead of several hundred
    launches of small kernels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    @torch.inference_mode()
    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.cuda.device(inputs[0].device):
            shapes = tuple(x.shape for x in inputs)
            if shapes not in self._graphs:
                if len(self._graphs) == GRAPHS:
                    self._graphs.clear()
                self._graphs[shapes] = self._captured(inputs)
            graph, held, output = self._graphs[shapes]
            for mine, given in zip(held, inputs, strict=True):
                mine.copy_(given)
            graph.replay()
            return output.clone()

    def _captured(self, inputs: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        held = [x.clone() for x in inputs]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries choose their algorithms before the capture
                self.network(*held)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.network(*held)
        return graph, held, output


def by_onednn(x: Tensor) -> bool:
    """Whether to call oneDNN directly, as torch.compile does."""
    return x.device.type == "cpu" and x.dtype is torch.float32 and _ONEDNN


def fixed_linear(weight: Tensor, bias: Tensor) -> FastLinear:
    """A linear layer of these weights (outputs, inputs), without gradients."""
    layer = FastLinear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = fixed(weight), fixed(bias)
    return layer


def fixed(x: Tensor) -> nn.Parameter:
    """A parameter without gradients."""
    return nn.Parameter(x.detach().contiguous(), requires_grad=False)
