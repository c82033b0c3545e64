"""The registry of codes is complete, used, and what the document says."""

import ast
import re
from pathlib import Path

import node
from node.cli.symptoms import SYMPTOMS, symptoms_document
from node.codes import CODES, codes_document

PACKAGE = Path(node.__file__).parent
DOCS = PACKAGE.parent / "docs"
CODE = re.compile(r"\b[EW]_[A-Z]+(?:_[A-Z]+)*\b")


def used() -> set[str]:
    """Every code in a string of the node, except in the registry and in what is made from it."""
    return {
        code
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("codes.py", "symptoms.py")
        for part in ast.walk(ast.parse(path.read_text()))
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
        for code in CODE.findall(part.value)
    }


def test_every_code_in_use_is_registered_and_every_registered_code_is_in_use() -> None:
    assert used() == set(CODES)


def test_the_document_is_what_the_command_prints() -> None:
    assert (DOCS / "codes.md").read_text() == codes_document(), (
        "bring it up to date: diffmsr-node codes > docs/codes.md"
    )


def test_troubleshooting_is_what_the_command_prints() -> None:
    message = "bring it up to date: diffmsr-node codes --symptoms > docs/troubleshooting.md"
    assert (DOCS / "troubleshooting.md").read_text() == symptoms_document(), message


def test_every_code_belongs_to_one_symptom() -> None:
    named = [code for group in SYMPTOMS.values() for symptom in group for code in symptom.codes]
    assert sorted(named) == sorted(CODES)


def test_every_code_has_whole_sentences() -> None:
    for name, code in CODES.items():
        for text in (code.meaning, code.advice or code.meaning):
            assert text[0].isupper() and text.endswith("."), name
            assert "|" not in text, "it would end a cell of the table"
