"""The JSON of a job row: its payload, which says what a stage has to do, and its result, which says what came of it.

The match writes a PairRequest for infer, infer writes a DeriveRequest for derive, derive writes one DeliverRequest per
destination for deliver. The receiver writes a CommitmentRequest for itself, which it does after the association or after
a restart.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class StackRequest(BaseModel):
    """One stack of slices of one series: enough for a later stage to find and order its instances."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series_uid: str
    contrast: str
    sop_uids: tuple[str, ...]
    """In order along the slice normal; of a multi-frame instance, its UID once for each slice."""
    frames: tuple[int, ...] | None = None
    """Frame numbers from 1, one for each slice, when the instances are multi-frame."""


class PairRequest(BaseModel):
    """A target to super-resolve with a reference, both of one study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study_uid: str
    target: StackRequest
    reference: StackRequest
    warnings: tuple[str, ...] = ()
    """Sentences of predicates that warned. They accompany the result."""
    content: str = ""
    """A digest of the instances of the pair that are no longer as they came first; empty when all are."""
    replaces: str | None = None
    """Key of the infer job whose result was delivered before and is replaced by this one."""

    @model_validator(mode="before")
    @classmethod
    def _without_acquired_matrix(cls, payload: Any) -> Any:
        """Versions before told the infer stage which matrix was acquired; now it reads the headers itself."""
        if isinstance(payload, dict):
            return {key: value for key, value in payload.items() if key != "acquired_matrix"}
        return payload


class DeriveRequest(BaseModel):
    """A result to encode as derived instances."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: str
    """Key of the infer job that made it. The archive keeps the result and what is derived from it under this name."""
    request: PairRequest
    """The pair from which the result was made."""


class DeliverRequest(DeriveRequest):
    """The derived instances of a result to send to a destination."""

    destination: str
    """Name in the configuration."""


class CommitmentRequest(BaseModel):
    """A storage commitment that a peer requested: what to report, and to whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transaction_uid: str
    ae_title: str
    """AE title with which the peer called."""
    instances: tuple[tuple[str, str], ...]
    """(SOP class UID, SOP instance UID), as the peer named them."""


class JobResult(BaseModel):
    """What came of a job. The result of a match job is the verdict (`node.verdicts`), which has both of these; each other
    kind of job adds figures of its own."""

    model_config = ConfigDict(frozen=True)

    sentence: str | None = None
    code: str | None = None
    """The code of a refusal."""

    def to_json(self) -> dict[str, Any]:
        """As the tracker keeps it."""
        return self.model_dump(mode="json", exclude_none=True)


class InferResult(JobResult):
    slices: int
    seconds: float
    device: str
    usable: bool
    """Whether no threshold of the quality was crossed."""
    memory_bytes: int | None = None
    """The most memory that torch had on the GPU, or that the process had, until then."""


class DeriveResult(JobResult):
    instances: int


class DeliverResult(JobResult):
    instances: int
    left_out: tuple[str, ...] | None = None
    """Names of the SOP classes of documents that the destination does not store."""


class FetchResult(JobResult):
    series: dict[str, int]
    """Series instance UID to the number of new instances."""


class ReplayResult(JobResult):
    same: bool
    """Byte for byte."""
    lines: tuple[str, ...]
    """What the command printed."""
