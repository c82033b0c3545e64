"""The configured model, for the packages that need to know about it and do not run it."""

from node.config.settings import Settings
from node.infer.model import read_model
from node.infer.parameters import job_parameters
from node.match.stack_roles import ModelFacts


def model_facts(settings: Settings) -> ModelFacts:
    """What the matching needs to know about the model. ModelError when its manifest cannot be used."""
    model = read_model(settings.model)
    return ModelFacts(
        name=model.name,
        version=model.version,
        scale=model.scale,
        trained_pairs=tuple((p.target, p.reference) for p in model.trained_pairs),
    )


def pixel_settings(settings: Settings) -> dict[str, str]:
    """What the configuration says that changes pixels; with the pair it names an infer job."""
    return job_parameters(settings, read_model(settings.model))
