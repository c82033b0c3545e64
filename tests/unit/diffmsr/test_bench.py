"""`diffmsr bench`: its counts are those made by hand, and it says what it measured."""

import json

import pytest
import torch
from typer.testing import CliRunner

from diffmsr.bench import count, text
from diffmsr.cli import app
from diffmsr.models.diffmsr import DiffMSR
from diffmsr.models.diffmsr.config import PAPER, DiffMSRConfig


def macs_by_hand(p: DiffMSRConfig, size: int) -> int:
    """Multiply-accumulates of a slice, from the paper's architecture: per pixel of the low-resolution grid."""

    def conv(inputs: int, outputs: int, taps: int = 9) -> int:
        return inputs * outputs * taps

    def attention(k: int) -> int:
        cells = (p.window // k) ** 2
        return 2 * conv(c, c, 1) + conv(c, 2 * c // k**2, 1) + 2 * cells * c

    c, e, r, w, z = p.channels, p.extractor_width, p.reference_width, p.tail_width, p.latent
    hidden = int(c * p.expansion)
    feed_forward = conv(c, 2 * hidden, 1) + 9 * 2 * hidden + conv(hidden, c, 1)
    condition = conv(2, e) + 2 * p.extractor_blocks * conv(e, e) + conv(e, 2 * e) + conv(2 * e, 2 * e) + conv(2 * e, z)
    catl = 16 * conv(2, r) + 4 * conv(r, r) + conv(r, c) + p.cross_blocks * (attention(p.cross_k) + feed_forward)
    plwformer = sum(n * (attention(p.k) + feed_forward) + conv(c, c) for n in p.blocks)
    tail = conv(c, 4 * w) + 4 * conv(w, 4 * w) + 16 * conv(w, 2)
    # and per slice, what is done on Z
    denoiser = p.steps * ((2 * z + 1) * z + (p.denoiser_layers - 1) * z * z)
    modulations = sum(p.blocks) * 2 * z * 2 * c
    per_pixel = conv(2, c) + condition + catl + conv(c, c) + plwformer + tail
    return size**2 * per_pixel + 2 * z * z + denoiser + modulations


def test_flops_are_those_counted_by_hand() -> None:
    with torch.device("meta"):
        model = DiffMSR(PAPER).eval()
        inputs = count.random_inputs(model, 1, 64)
    assert count.gflop_of(model, inputs) * 1e9 == pytest.approx(2 * macs_by_hand(PAPER, 64), rel=1e-9)


def test_the_command_prints_counts_times_and_ratios(mini: DiffMSRConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "PRESETS", {"mini": mini})
    asked = "bench --preset mini --size 16 --rounds 2 --batch 1 --batch 2 --threads 1 --json"
    done = CliRunner().invoke(app, asked.split())
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert [(row["preset"], row["variant"]) for row in figures["counts"]] == [("mini", f"k = {k}") for k in (1, 2, 4)]
    assert figures["machine"]["threads"] == 1
    assert [row["batch"] for row in figures["inference"]] == [1, 2]
    for row in figures["inference"]:
        assert row["difference"] <= 1e-5
        assert all(0 < row[way]["min"] <= row[way]["median"] for way in ("contiguous", "plain", "fast"))
    assert figures["training"]["product"]["slices_per_second"] > 0
    assert f"{figures['inference'][1]['fast_over_plain']['median']:.2f} (fastest" in text(figures)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--preset", "vast"], "unknown preset 'vast'; known presets are"),
        (["--device", "abacus"], "cannot use device abacus"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(asked: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["bench", *asked])
    assert done.exit_code == 1 and says in done.stderr and done.stderr.count("\n") == 1
