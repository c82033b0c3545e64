"""The manifest of the configured model, for everybody who needs to know about it and does not run it."""

from diffmsr.manifest import Manifest, ManifestError, default_weights_folder, read_manifest
from node.config.settings import ModelSettings
from node.errors import ModelError


def read_model(settings: ModelSettings) -> Manifest:
    """The manifest of the configured weights, without loading them. ModelError when it cannot be used."""
    try:
        manifest = read_manifest(settings.path or default_weights_folder())
    except ManifestError as error:
        raise ModelError(f"[model] path: {error}") from None
    if manifest.input_kind != "magnitude":
        raise ModelError(
            f"[model] path: {manifest.name} takes {manifest.input_kind} images; DICOM series are magnitudes"
        )
    return manifest
