"""What a result is derived from, besides its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from node.payloads import PairRequest


@dataclass(frozen=True)
class Sources:
    """The sources of a result, and everything else of its study that decides its series number."""

    request: PairRequest
    """The pair from which the result was made."""
    requests: Sequence[PairRequest]
    """Every pair of the study that was ever requested, oldest first: each keeps its series number."""
    headers: Sequence[Dataset]
    """At least those of the pair's instances, in any order, without pixels."""
    series: Sequence[Dataset]
    """At least one header of each series of the study: their numbers are taken."""
    replaced: Sequence[Dataset] = ()
    """Headers of the derived instances that the request replaces."""
