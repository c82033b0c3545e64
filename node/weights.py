"""The configured model, in the words of the rooms that need to know it without running it."""

from node import __version__
from node.config.settings import Settings
from node.infer.engine import read_model
from node.match.assess import ModelFacts


def model_facts(settings: Settings) -> ModelFacts:
    """What the matching has to know of the model. ModelError when its manifest cannot be used."""
    model = read_model(settings.model)
    return ModelFacts(
        name=model.name,
        version=model.version,
        scale=model.scale,
        trained_pairs=tuple((p.target, p.reference) for p in model.trained_pairs),
    )


def pixel_settings(settings: Settings) -> dict[str, str]:
    """Everything beside the pair that changes a result: names an infer job, see `node.match.worker.matcher`."""
    return {
        "weights": read_model(settings.model).sha256,
        "precision": settings.model.precision,
        "data consistency": str(settings.model.data_consistency),
        "registration": settings.registration.model_dump_json(),
        "version": __version__,
    }
