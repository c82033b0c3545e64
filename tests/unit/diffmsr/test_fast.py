"""The fast network is the plain one: at every size, borders included, whatever the preset leaves out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diffmsr.acquisition import FEATURES
from diffmsr.models.diffmsr import DiffMSR
from diffmsr.models.diffmsr.blocks import Conv
from diffmsr.models.diffmsr.config import PAPER, SMALL, TINY, DiffMSRConfig
from diffmsr.models.diffmsr.fast import FastDiffMSR, fast_network
from diffmsr.models.kernels import Folded

MINI = DiffMSRConfig(
    "mini",
    channels=16,
    blocks=(2, 1),
    window=8,
    latent=16,
    extractor_width=8,
    extractor_blocks=1,
    reference_width=4,
    tail_width=4,
)


@torch.no_grad()
def randomised(model: DiffMSR, seed: int) -> DiffMSR:
    """Weights at which every part matters: none is at the zero or the one it starts from."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        else:
            parameter.add_(0.3 * noise)
    return model.eval()


def inputs(preset: DiffMSRConfig, n: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    low, reference = (torch.rand(n, 2, s * h, s * w, generator=generator) for s in (1, 4))
    return low, reference, torch.randn(n, preset.z_size, generator=generator)


@torch.inference_mode()
def assert_equal(model: DiffMSR, n: int, h: int, w: int) -> None:
    given = inputs(model.config, n, h, w)
    plain, fast = model(*given), FastDiffMSR(model)(*given)
    assert fast.shape == plain.shape == (n, 2, 4 * h, 4 * w)
    assert (fast - plain).abs().max() <= 1e-5 * plain.abs().max()


@settings(max_examples=12, deadline=None)
@given(
    size=st.tuples(st.integers(8, 27), st.integers(8, 27)),
    seed=st.integers(0, 2**32),
    k=st.sampled_from([1, 2, 4]),
    switched_off=st.sets(st.sampled_from(["reference", "prior", "condition"])),
    switched_on=st.sets(st.sampled_from(["shift", "skip_input"])),
    steps=st.integers(1, 5),
)
def test_fast_is_plain(
    size: tuple[int, int], seed: int, k: int, switched_off: set[str], switched_on: set[str], steps: int
) -> None:
    switches = dict.fromkeys(switched_off, False) | dict.fromkeys(switched_on, True)
    preset = replace(MINI, k=k, cross_k=k, steps=steps, **switches)
    assert_equal(randomised(DiffMSR(preset), seed), 1, *size)


@pytest.mark.parametrize(
    ("preset", "n", "h", "w"),
    [(TINY, 2, 33, 17), (SMALL, 2, 16, 32), (SMALL, 1, 33, 17), (PAPER, 1, 16, 16)],
    ids=lambda value: value.name if isinstance(value, DiffMSRConfig) else str(value),
)
def test_fast_is_plain_in_the_presets(preset: DiffMSRConfig, n: int, h: int, w: int) -> None:
    assert_equal(randomised(DiffMSR(preset), seed=h), n, h, w)


@settings(max_examples=8, deadline=None)
@given(h=st.integers(3, 9), w=st.integers(3, 9), seed=st.integers(0, 2**32), bias=st.booleans())
def test_a_folded_chain_is_the_chain_up_to_its_borders(h: int, w: int, seed: int, bias: bool) -> None:
    torch.manual_seed(seed)
    chain = nn.Sequential(Conv(2, 3, bias=bias), Conv(3, 4, stride=2, bias=bias), Conv(4, 5, stride=2, bias=bias))
    x = torch.randn(2, 4 * h, 4 * w, 2)
    folded = Folded(chain, inputs=2, taps=9, stride=4)
    assert torch.allclose(folded(x), chain(x), rtol=0, atol=1e-5)


def test_borders_need_kernels_of_their_own() -> None:
    """The inner kernel alone would be wrong exactly in the first and last row and column."""
    torch.manual_seed(0)
    chain = nn.Sequential(Conv(2, 3), Conv(3, 2))
    folded = Folded(chain, inputs=2, taps=5, stride=1)
    x = torch.randn(1, 9, 8, 2)
    inner = nn.functional.conv2d(x.movedim(-1, 1), folded.kernel_11, folded.bias_11, padding=2).movedim(1, -1)
    wrong = ((inner - chain(x)).abs() > 1e-5).any(dim=-1)[0]
    border = torch.ones(9, 8, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert torch.equal(wrong, border)


def test_the_trained_network_stays_as_it_was() -> None:
    model = randomised(DiffMSR(MINI), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FastDiffMSR(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@torch.inference_mode()
def test_a_slice_does_not_depend_on_its_batch_to_the_last_bit() -> None:
    fast = FastDiffMSR(randomised(DiffMSR(MINI), seed=0))
    low, reference, noise = inputs(MINI, 3, 11, 16)
    together = fast(low, reference, noise)
    for i in range(3):
        assert torch.equal(fast(low[i : i + 1], reference[i : i + 1], noise[i : i + 1])[0], together[i])


@torch.inference_mode()
def test_slices_together_as_on_a_gpu_are_the_plain_ones() -> None:
    """On a CPU slices go one by one; a GPU takes them together, where modulation takes another road."""
    model = randomised(DiffMSR(MINI), seed=0)
    given = inputs(MINI, 3, 11, 16)
    plain, together = model(*given), FastDiffMSR(model)._together(*given, torch.zeros(3, FEATURES))
    assert (together - plain).abs().max() <= 1e-5 * plain.abs().max()


@torch.inference_mode()
def test_bfloat16_is_close_and_leaves_the_skip_path_exact() -> None:
    model = DiffMSR(MINI).eval()  # its last layer is zero: what comes out is the skip path
    given = inputs(MINI, 1, 16, 16)
    assert torch.equal(FastDiffMSR(model, torch.bfloat16)(*given), model(*given))
    model = randomised(model, seed=0)
    plain = model(*given)
    difference = FastDiffMSR(model, torch.bfloat16)(*given) - plain
    assert difference.square().mean().sqrt() < 0.05 * plain.square().mean().sqrt()


@torch.inference_mode()
def test_bfloat16_does_not_depend_on_what_was_in_memory_before() -> None:
    """With AMX, a convolution of an image as wide as its kernel gave what it found there."""
    model = randomised(DiffMSR(SMALL), seed=0)
    fast, given = FastDiffMSR(model, torch.bfloat16), inputs(SMALL, 1, 16, 16)
    plain = model(*given)
    for size in (2**12, 2**15, 2**18):
        poison = [torch.full((size,), torch.nan) for _ in range(20)]
        del poison
        assert (fast(*given) - plain).square().mean().sqrt() < 0.05 * plain.square().mean().sqrt()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@torch.inference_mode()
def test_a_replayed_graph_gives_what_the_network_gives() -> None:
    model = randomised(DiffMSR(MINI), seed=0).cuda()
    called, replayed = FastDiffMSR(model), fast_network(model)
    for n, h, w in ((1, 16, 16), (2, 11, 16), (1, 16, 16)):
        given = [x.cuda() for x in inputs(MINI, n, h, w)]
        given[0] *= torch.rand((), device="cuda")  # other values at a shape that is known
        assert torch.allclose(replayed(*given), called(*given), atol=1e-4)
