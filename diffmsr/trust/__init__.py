"""The trust map: how large the error of each super-resolved pixel is expected to be.

`network` predicts it from what is at hand at inference, `calibration` brings the prediction onto the scale that patients gave,
`weights` is the folder that holds both, `summary` says in few figures what a map shows.
"""

from diffmsr.trust.calibration import Calibration, Curve, Gain
from diffmsr.trust.network import TrustNetwork
from diffmsr.trust.summary import TrustSummary, has_tissue, summarise, tissue_of
from diffmsr.trust.weights import TRUST_FOLDER, TrustManifest, TrustMap, read_trust_manifest

__all__ = [
    "TRUST_FOLDER",
    "Calibration",
    "Curve",
    "Gain",
    "TrustManifest",
    "TrustMap",
    "TrustNetwork",
    "TrustSummary",
    "has_tissue",
    "read_trust_manifest",
    "summarise",
    "tissue_of",
]
