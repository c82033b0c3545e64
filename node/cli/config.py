"""Commands that check and show the configuration."""

import json

import typer
from pydantic_core import to_jsonable_python
from rich.markup import escape

from node.cli.console import out, print_json
from node.cli.options import ConfigOption, JsonOption
from node.config.loading import load_settings
from node.config.place import find_config
from node.config.settings import Settings
from node.errors import ConfigError

config_app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Check the configuration, its certificates and keys, and the manifest of the model, and report what is wrong.

    Examples: config check; config check --config /etc/diffmsr-node/node.toml
    """
    from node import checks
    from node.doctor.certificates import certificates
    from node.doctor.patience import patience
    from node.doctor.secrets import secrets

    path = find_config(config)
    settings = load_settings(path)
    answers = checks.run(settings, (checks.tracker_place, checks.model, checks.destinations, checks.hosts))
    answers += [*certificates(settings), *secrets(settings), *patience(settings)]
    for answer in answers:
        if answer.level is checks.Level.FAIL:
            raise ConfigError(answer.says)
    model = next(answer for answer in answers if answer.name == "model")
    count = len(settings.destinations)
    out.print(
        f"{escape(str(path))} is valid; model {escape(model.sentence)}, {count} destination{'' if count == 1 else 's'}"
    )
    for answer in answers:
        if answer.level is checks.Level.WARN:
            out.print(f"[yellow]warning:[/] {escape(answer.says)}")


@config_app.command("show")
def config_show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the effective configuration: file, environment and defaults together, with passwords masked.

    Examples: config show; config show --json
    """
    settings = load_settings(find_config(config))
    values = to_jsonable_python(settings.model_dump())
    values["node"]["database_url"] = _masked(settings)
    if as_json:
        print_json(values)
        return
    for section, keys in values.items():
        for index, table in enumerate(keys if isinstance(keys, list) else [keys or {}]):
            heading = f"[[{section}]] #{index + 1}" if isinstance(keys, list) else f"[{section}]"
            out.print(escape(heading), highlight=False)
            for key, value in table.items():
                out.print(escape(f"  {key} = {json.dumps(value)}"), highlight=False)


def _masked(settings: Settings) -> str:
    from node.tracker.database import parse_url, without_secrets

    return without_secrets(parse_url(settings.node.url))
