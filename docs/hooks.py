"""A hook of mkdocs: the model cards, which stand beside their weights, become pages of the site."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

WEIGHTS = Path(__file__).parents[1] / "diffmsr" / "weights"
PAGES = {"small": "model-card.md", "cnn": "model-card-cnn.md", "small/trust": "model-card-trust.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each card. Links that lead through the source tree lead to pages instead."""
    for name, page in PAGES.items():
        text = (WEIGHTS / name / "MODEL_CARD.md").read_text()
        for to_docs in ("](../../../docs/", "](../../../../docs/"):
            text = text.replace(to_docs, "](")
        for other, target in PAGES.items():
            text = text.replace(f"](../{other}/MODEL_CARD.md)", f"]({target})")
        files.append(File.generated(config, page, content=text))
    return files
