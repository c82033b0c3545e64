"""The networks: what each offers (`protocol`), and how one finds it (`registry`).

A network is one file, or one package, of this folder. All of them are imported here, so each one that registers itself
is known.
"""

from diffmsr.discovery import import_modules_of
from diffmsr.models.protocol import Batch, Losses, Model, ModelConfig, Objective, in_precision, standard_normal
from diffmsr.models.registry import PRESETS, UnknownPresetError, build, preset_named, register_model

import_modules_of(__name__, __path__)

__all__ = [
    "PRESETS",
    "Batch",
    "Losses",
    "Model",
    "ModelConfig",
    "Objective",
    "UnknownPresetError",
    "build",
    "in_precision",
    "preset_named",
    "register_model",
    "standard_normal",
]
