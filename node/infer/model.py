"""The manifest of the configured model, for everybody who needs to know about it and does not run it."""

from pathlib import Path

from diffmsr.manifest import Manifest, ManifestError, read_manifest, weights_of_package
from node.config.settings import ModelSettings
from node.errors import ModelError


def weights_folder(settings: ModelSettings) -> Path:
    """The folder of the configured weights."""
    return settings.path or weights_of_package(settings.weights)


def read_model(settings: ModelSettings) -> Manifest:
    """The manifest of the configured weights, without loading them. ModelError when it cannot be used."""
    try:
        manifest = read_manifest(weights_folder(settings))
    except ManifestError as error:
        raise ModelError(f"[model] path: {error}") from None
    if manifest.input_kind != "magnitude":
        raise ModelError(
            f"[model] path: {manifest.name} takes {manifest.input_kind} images; DICOM series are magnitudes"
        )
    return manifest
