"""Networks by the name of their preset. A network registers itself; see `diffmsr/models/cnn.py` for a short one."""

from collections.abc import Callable
from typing import TypeVar

from diffmsr.models.protocol import Model, ModelConfig

M = TypeVar("M", bound=type[Model])

PRESETS: dict[str, ModelConfig] = {}
"""Every registered configuration, by its name."""
_NETWORKS: dict[type[ModelConfig], type[Model]] = {}


class UnknownPresetError(ValueError):
    """No network is registered under this name."""


def register_model(*presets: ModelConfig) -> Callable[[M], M]:
    """A decorator that makes a network known under the names of these presets. It is built by calling the class with a
    configuration of the presets' type. Raises ValueError when a name is taken."""

    def registered(network: M) -> M:
        for preset in presets:
            if preset.name in PRESETS:
                raise ValueError(f"the preset {preset.name!r} is registered twice")
            PRESETS[preset.name] = preset
            _NETWORKS[type(preset)] = network
        return network

    return registered


def preset_named(name: str) -> ModelConfig:
    """The configuration of this name. Raises UnknownPresetError, which lists the known names."""
    if name not in PRESETS:
        raise UnknownPresetError(f"unknown preset {name!r}; known presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def build(config: ModelConfig) -> Model:
    """The network of a configuration, before training."""
    return _NETWORKS[type(config)](config)
