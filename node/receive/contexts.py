"""What the storage SCP accepts: SOP classes, and transfer syntaxes in the order of preference.

MR images are what the node works on. Whatever else a study has is taken too, since a sender that sends whole studies stops at
the first instance that it cannot send."""

from collections.abc import Collection, Iterable

from pydicom import uid
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

from node.config.settings import SCPSettings
from node.dimse.commitment_messages import PUSH_MODEL
from node.dimse.negotiation import VERIFICATION

MR_SOP_CLASSES = [uid.MRImageStorage, uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage]
OTHER_SOP_CLASSES = sorted(
    {str(context.abstract_syntax) for context in AllStoragePresentationContexts} - set(MR_SOP_CLASSES)
)
"""Every other storage SOP class of the standard, as far as pynetdicom knows them."""

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


COMMITMENT = PUSH_MODEL

_UNCOMPRESSED = [str(uid.ImplicitVRLittleEndian), str(uid.ExplicitVRLittleEndian)]
_SYNTAXES_OF_MR = [str(syntax) for syntax in ACCEPTED_TRANSFER_SYNTAXES]
_SYNTAXES_OF_OTHERS = list(dict.fromkeys([*_SYNTAXES_OF_MR, *map(str, ALL_TRANSFER_SYNTAXES)]))
"""Videos too: they are not decoded here."""

MR = frozenset(str(sop_class) for sop_class in MR_SOP_CLASSES)
SUPPORTED: dict[str, list[str]] = {
    VERIFICATION: [*_UNCOMPRESSED, str(uid.DeflatedExplicitVRLittleEndian), str(uid.ExplicitVRBigEndian)],
    **{str(sop_class): _SYNTAXES_OF_MR for sop_class in MR_SOP_CLASSES},
    **dict.fromkeys(OTHER_SOP_CLASSES, _SYNTAXES_OF_OTHERS),
    COMMITMENT: [*reversed(_UNCOMPRESSED)],
}
"""SOP class: transfer syntaxes, in the order of preference. Private SOP classes come in addition, see `supported`."""

BOTH_ROLES = frozenset({COMMITMENT})
"""A scanner sends its request as SCU. A destination reports on ours as SCP, by role selection (PS3.7 D.3.3.4)."""

_STANDARD, _STORAGE = "1.2.840.10008.", "1.2.840.10008.5.1.4.1.1."
"""What the UIDs of the standard begin with, and those of its storage SOP classes (PS3.4 B.5)."""


def supported(proposed: Iterable[str], settings: SCPSettings) -> dict[str, list[str]]:
    """`SUPPORTED`, and of the SOP classes that are proposed the private ones that the configuration admits, and storage
    SOP classes of the standard that are retired or newer than pynetdicom."""
    admitted = settings.private_sop_classes
    unlisted = {one for one in proposed if one not in SUPPORTED}
    further = {one for one in unlisted if one.startswith(_STORAGE)}
    further |= {one for one in unlisted if not one.startswith(_STANDARD) and (admitted == "all" or one in admitted)}
    return SUPPORTED | dict.fromkeys(further, _SYNTAXES_OF_OTHERS)


def supported_contexts(only: Collection[str] = SUPPORTED) -> list[PresentationContext]:
    """The presentation contexts that the SCP supports, of these SOP classes, as pynetdicom has them."""
    contexts = [build_context(sop_class, [*syntaxes]) for sop_class, syntaxes in SUPPORTED.items() if sop_class in only]
    for context in contexts:
        if context.abstract_syntax in BOTH_ROLES:
            context.scu_role = context.scp_role = True
    return contexts
