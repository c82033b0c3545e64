"""Everything besides the sources that changes the pixels of a result, listed once. Two results that differ in something that
is missing here would have one name.

What the configuration says before a pair has run names the infer job, so that the same study sent twice is worked on once.
What earlier versions knew keeps the words that they had for it, so what they finished keeps its name.
What is known when it has run goes with the result, and decides its identifiers.
"""

from diffmsr.manifest import Manifest
from node import __version__
from node.config.settings import ModelSettings, Settings
from node.infer.acquisition import Understanding
from node.infer.motion import Motion
from node.result import Registration


def job_parameters(settings: Settings, model: Manifest) -> dict[str, str]:
    """What names an infer job besides its pair. Device and batch are left out, because they change only rounding."""
    consistency = "full" if settings.model.data_consistency else model.consistency
    return {
        "weights": model.sha256,
        "precision": settings.model.precision,
        "data consistency": {"none": "False", "full": "True"}.get(consistency, consistency),
        "registration": settings.registration.model_dump_json(),
        "acquisition": settings.acquisition.model_dump_json(),
        "version": __version__,
    }


def result_parameters(
    settings: ModelSettings,
    device: str,
    batch: int,
    grid_offset: float,
    understanding: Understanding,
    registration: Registration | None,
    trust: str,
    consistency: str,
) -> dict[str, str]:
    """What accompanies a result besides its sources and weights; `trust` says which network gave the trust map, `consistency` which
    part of the measured k-space was put back. Device and batch are included, because a result that differs from another one by
    rounding must have other identifiers."""
    parameters = {
        "acquisition": understanding.parameter or "unknown",
        "batch slices": str(batch),
        "data consistency": {"none": "no", "full": "yes"}.get(consistency, f"{consistency} frequencies"),
        "device": device.partition(":")[0],
        "grid offset": f"{grid_offset:g}",
        "precision": settings.precision,
        "reference interpolation": "cubic B-spline, mean over the voxel of the result",
        "trust map": trust,
    }
    if understanding.acquired.undone:
        parameters["undone before"] = ", ".join(understanding.acquired.undone)
    if registration is not None and registration.corrected:
        parameters["reference moved by"] = str(Motion(registration.shift_mm, registration.rotation_deg))
    return parameters
