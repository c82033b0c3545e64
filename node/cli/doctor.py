"""The command that examines the node and everything around it."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.markup import escape

from node.checks import Check, Level
from node.cli.console import out, print_json
from node.cli.options import ConfigOption, JsonOption
from node.config.loading import load_settings
from node.config.place import find_config
from node.errors import ConfigError
from node.tracker import views

COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def doctor(
    config: ConfigOption = None,
    golden: Annotated[
        bool,
        typer.Option(
            "--golden/--no-golden",
            help="Run the shipped study through the model. Its result is compared with that of the first run.",
        ),
    ] = True,
    send_test: Annotated[
        bool,
        typer.Option(
            "--send-test", help="Send a marked test image to each destination. It stays there until you delete it."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Examine the configuration, this host, the peers and the model; say what is wrong and what to do.

    Exit code 0 when nothing keeps the node from working, warnings or not. Otherwise the code of the first fault: 3 for the
    configuration, 5 for a peer, 1 for anything else.

    Examples: doctor; doctor --no-golden --json; doctor --send-test
    """
    answers = []
    for answer in _answers(config, golden, send_test):
        answers.append(answer)
        if not as_json:
            _print(answer)
    faults = [answer for answer in answers if answer.level is Level.FAIL]
    warnings = sum(answer.level is Level.WARN for answer in answers)
    if as_json:
        found = [{"name": a.name, "level": a.level.value, "sentence": a.sentence, "fix": a.fix} for a in answers]
        print_json({"schema": views.SCHEMA, "healthy": not faults, "checks": found})
    else:
        counted = {"fault": len(faults), "warning": warnings, "answer": len(answers)}
        out.print(", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counted.items()))
    if faults:
        raise typer.Exit(faults[0].failure.exit_code)


def _answers(config: ConfigOption, golden: bool, send_test: bool) -> Iterable[Check]:
    """The configuration first: without it there is nothing to examine."""
    name = "configuration"
    try:
        path = find_config(config)
        settings = load_settings(path)
    except ConfigError as error:
        yield Check(name, Level.FAIL, str(error), "correct it; config/node.toml explains every key")
        return
    yield Check(name, Level.OK, f"{path} is valid")
    from node.doctor.examine import examine

    yield from examine(settings, golden=golden, send_test=send_test)


def _print(answer: Check) -> None:
    colour = COLOURS[answer.level]
    out.print(f"[{colour}]{answer.level.value:<5}[/] {escape(answer.name)}: {escape(answer.sentence)}", highlight=False)
    if answer.fix is not None:
        out.print(f"      to do: {escape(answer.fix)}", highlight=False)
