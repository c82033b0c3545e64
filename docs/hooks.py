"""A hook of mkdocs: the model cards, which stand beside their weights, become pages of the site."""

import posixpath
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

WEIGHTS = Path(__file__).parents[1] / "diffmsr" / "weights"
PAGES = {
    "small": "model-card.md",
    "small-without-diffusion": "model-card-without-diffusion.md",
    "cnn": "model-card-cnn.md",
    "small/trust": "model-card-trust.md",
    "small-without-diffusion/trust": "model-card-trust-without-diffusion.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each card. Links that lead through the source tree lead to pages instead."""
    for name, page in PAGES.items():
        text = (WEIGHTS / name / "MODEL_CARD.md").read_text()
        for to_docs in ("](../../../docs/", "](../../../../docs/"):
            text = text.replace(to_docs, "](")
        for other, target in PAGES.items():
            link = posixpath.relpath(f"{other}/MODEL_CARD.md", name)
            text = text.replace(f"]({link})", f"]({target})")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **rest: Any) -> str:
    """A page of the documentation with links to the pages of the cards."""
    folder = posixpath.dirname(page.file.src_uri)
    for name, target in PAGES.items():
        card = posixpath.relpath(f"../diffmsr/weights/{name}/MODEL_CARD.md", folder or ".")
        markdown = markdown.replace(f"]({card})", f"]({posixpath.relpath(target, folder or '.')})")
    return markdown
