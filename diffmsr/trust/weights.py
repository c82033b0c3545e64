"""The folder `trust` beside the weights whose errors it predicts: `model.safetensors` and a manifest. Reading the manifest does
not import torch."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffmsr.manifest import MANIFEST_FILE, ManifestError
from diffmsr.trust.calibration import Calibration, Curve, Gain

if TYPE_CHECKING:
    from torch import Tensor

    from diffmsr.trust.network import TrustNetwork

TRUST_FOLDER = "trust"


@dataclass(frozen=True)
class TrustManifest:
    """The fields of the manifest."""

    name: str
    version: str
    sha256: str
    """Of the weights file."""
    of: str
    """SHA-256 of the super-resolution weights whose errors it predicts. It knows nothing about others, and is not used for them."""
    gain: Gain
    expected: Curve
    limit: Curve
    """See `Calibration`."""
    calibrated_on: str
    training_data: str
    licence: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    """Measured on patients never seen. The model card says how."""

    def write(self, folder: Path) -> None:
        (folder / MANIFEST_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @property
    def title(self) -> str:
        """Name and version for people, with the beginning of the SHA-256."""
        return f"{self.name} {self.version} (SHA-256 {self.sha256[:16]})"

    @property
    def calibration(self) -> Calibration:
        return Calibration(self.gain, self.expected, self.limit)


def read_trust_manifest(weights: Path) -> TrustManifest | None:
    """The manifest of the trust network in a folder of super-resolution weights; None where there is none. Raises ManifestError, in
    one line, when it is damaged."""
    path = weights / TRUST_FOLDER / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        if set(values) != {field.name for field in fields(TrustManifest)}:
            raise ValueError("its keys are not those of this version")
        curves = {name: _curve(values[name]) for name in ("expected", "limit")}
        gain = Gain(tuple(map(float, values["gain"]["at"])), tuple(map(float, values["gain"]["gives"])))
        return TrustManifest(**values | curves | {"gain": gain})
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{path} is not the manifest of a trust network: {error}") from None


def _curve(values: dict[str, list[float]]) -> Curve:
    curve = Curve(tuple(map(float, values["at"])), tuple(map(float, values["gives"])))
    rising = all(0 < a < b for a, b in zip(curve.at, curve.at[1:], strict=False))
    monotone = all(0 < a <= b for a, b in zip(curve.gives, curve.gives[1:], strict=False))
    if len(curve.at) != len(curve.gives) or len(curve.at) < 2 or not rising or not monotone:
        raise ValueError("a curve is not monotone")
    return curve


@dataclass(frozen=True)
class TrustMap:
    """A trust network with its calibration, ready to use."""

    network: "TrustNetwork"
    calibration: Calibration
    name: str = ""
    """With version and digest of the weights."""

    def __call__(self, skip: "Tensor", reference: "Tensor", image: "Tensor", facts: "Tensor") -> "Tensor":
        """The expected absolute error (n, s h, s w); the arguments are those of the network's `forward`."""
        import torch

        from diffmsr.trust.network import agreement

        predicted = self.network(skip, reference, image, facts)
        factor = self.calibration.gain(1 - agreement(skip, reference)[1].cpu().numpy())[:, :, None]
        expected = self.calibration.expected(factor * predicted.float().cpu().numpy())
        return torch.from_numpy(expected).to(predicted.device)
