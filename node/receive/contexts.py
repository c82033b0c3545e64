"""What the storage SCP accepts: SOP classes, and transfer syntaxes in the order of preference."""

from pydicom import uid
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.dimse.commitment_messages import PUSH_MODEL

IMAGE_SOP_CLASSES = [
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.SecondaryCaptureImageStorage,
]
STORED_SOP_CLASSES = [
    *IMAGE_SOP_CLASSES,
    # Documents of this node that a PACS sends with whole studies. They are kept like the rest and never processed.
    uid.Comprehensive3DSRStorage,
    uid.ComprehensiveSRStorage,
    uid.EnhancedSRStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
]

# The order of the acceptor decides. Explicit VR comes first: senders then transmit what they have without converting it.
ACCEPTED_TRANSFER_SYNTAXES: list[str | uid.UID] = [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.RLELossless,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
    uid.JPEGExtended12Bit,
    uid.JPEGBaseline8Bit,
]


VERIFICATION, COMMITMENT = str(Verification), PUSH_MODEL

_UNCOMPRESSED = [str(uid.ImplicitVRLittleEndian), str(uid.ExplicitVRLittleEndian)]

STORED = frozenset(str(sop_class) for sop_class in STORED_SOP_CLASSES)
SUPPORTED: dict[str, list[str]] = {
    VERIFICATION: [*_UNCOMPRESSED, str(uid.DeflatedExplicitVRLittleEndian), str(uid.ExplicitVRBigEndian)],
    **{str(sop_class): [str(syntax) for syntax in ACCEPTED_TRANSFER_SYNTAXES] for sop_class in STORED_SOP_CLASSES},
    COMMITMENT: [*reversed(_UNCOMPRESSED)],
}
"""SOP class: transfer syntaxes, in the order of preference."""

BOTH_ROLES = frozenset({COMMITMENT})
"""A scanner sends its request as SCU. A destination reports on ours as SCP, by role selection (PS3.7 D.3.3.4)."""


def supported_contexts() -> list[PresentationContext]:
    """The presentation contexts that the SCP supports, as pynetdicom has them."""
    contexts = [build_context(sop_class, [*syntaxes]) for sop_class, syntaxes in SUPPORTED.items()]
    for context in contexts:
        if context.abstract_syntax in BOTH_ROLES:
            context.scu_role = context.scp_role = True
    return contexts
