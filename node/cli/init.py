"""The command that sets up an installation: a configuration, a data folder, a tracker and, if wanted, a systemd unit."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from node.cli.console import out
from node.cli.options import ConfigOption
from node.config.loading import load_settings, template, unit_template
from node.config.settings import Settings
from node.errors import ConfigError
from node.tracker.database import Database

UNITS = Path("/etc/systemd/system")

_PACS = re.compile(r"(?P<ae_title>[^@]{1,16})@(?P<host>[^:]+):(?P<port>\d+)")
_PACS_FORM = "write AE@HOST:PORT, such as PACS@10.0.0.10:104"


def init(
    config: ConfigOption = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for instances and the tracker.")] = None,
    ae_title: Annotated[str | None, typer.Option(help="AE title of this node.")] = None,
    pacs: Annotated[
        str | None, typer.Option(metavar="AE@HOST:PORT", help="The PACS that gets the results, as a destination.")
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Write a systemd unit too: as root for the system, else beside the file.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing configuration. The old one is kept as FILE.bak.")
    ] = False,
) -> None:
    """Write a commented configuration, and create the data folder and the tracker.

    On a terminal it asks for what is not given: data folder, AE title and PACS. These three settings are enough.

    Examples: init --ae-title DIFFMSR --pacs PACS@10.0.0.10:104; init --config /etc/diffmsr-node/node.toml --systemd
    """
    path = (config or Path("node.toml")).absolute()
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; edit it, or replace it with --force")
    if sys.stdin.isatty():
        data_dir = data_dir or Path(_asked("folder for instances and the tracker", Settings().node.data_dir))
        ae_title = ae_title or _asked("AE title of this node", Settings().scp.ae_title)
        pacs = pacs or _asked("PACS that gets the results, as AE@HOST:PORT; empty for none", "", _pacs_or_none) or None
    text = _filled(template(), data_dir, ae_title, pacs)
    settings = _written(path, text)
    Database(settings.node.url).upgrade()
    out.print(f"configuration  {escape(str(path))}")
    out.print(f"data folder    {escape(str(settings.node.data_dir))}")
    if systemd:
        _write_unit(path, settings)
    missing = [] if ae_title else ["[scp] ae_title"]
    missing += [] if pacs else ["[[destinations]]"]
    first = f"set {' and '.join(missing)} there, then: " if missing else ""
    out.print(escape(f"next: {first}diffmsr-node doctor; diffmsr-node start"))


def _asked(what: str, default: object, check: Callable[[str], str] = str.strip) -> str:
    return str(typer.prompt(what, default=str(default), show_default=bool(default), value_proc=check, err=True)).strip()


def _pacs_or_none(text: str) -> str:
    if text.strip() and _PACS.fullmatch(text.strip()) is None:
        raise typer.BadParameter(_PACS_FORM)
    return text.strip()


def _written(path: Path, text: str) -> Settings:
    """Write the configuration, and keep the one that is there as FILE.bak. What cannot be read back is not left there."""
    backup = path.with_name(f"{path.name}.bak") if path.exists() else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if backup is not None:
            path.replace(backup)
        _write_new(path, text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    try:
        return load_settings(path)
    except ConfigError:
        path.unlink()
        if backup is not None:
            backup.replace(path)
        raise


def _write_new(path: Path, text: str) -> None:
    """Write a file in the place of whatever has that name. Through a link another file would be written. OSError."""
    path.unlink(missing_ok=True)
    with path.open("x") as file:
        file.write(text)


def _filled(text: str, data_dir: Path | None, ae_title: str | None, pacs: str | None) -> str:
    """The template with what was given in its place."""
    if data_dir is not None:
        text = text.replace('data_dir = "/var/lib/diffmsr-node"', f"data_dir = {json.dumps(str(data_dir.absolute()))}")
    if ae_title is not None:
        text = text.replace('ae_title = "DIFFMSR" ', f"ae_title = {json.dumps(ae_title)} ", 1)
    if pacs is not None:
        given = _PACS.fullmatch(pacs)
        if given is None:
            raise typer.BadParameter(_PACS_FORM, param_hint="--pacs")
        before, heading, after = text.partition("# [[destinations]]\n")
        text = (
            f'{before}[[destinations]]\nname = "pacs"\nae_title = {json.dumps(given["ae_title"])}\n'
            f"host = {json.dumps(given['host'])}\nport = {given['port']}\n\n# Every key of one:\n{heading}{after}"
        )
    return text


def _write_unit(config: Path, settings: Settings) -> None:
    """The unit with the paths of this installation, and what an administrator has to do with it."""
    folder = settings.node.data_dir
    program = Path(sys.executable).parent / "diffmsr-node"
    unit = unit_template()
    unit = unit.replace("/opt/diffmsr-node/bin/diffmsr-node", str(program)).replace(
        "/etc/diffmsr-node/node.toml", str(config)
    )
    if folder != Path("/var/lib/diffmsr-node"):
        unit = unit.replace("StateDirectory=diffmsr-node\nStateDirectoryMode=0750\n", f"ReadWritePaths={folder}\n")
        unit = unit.replace("/var/lib/diffmsr-node.", f"{folder}.")
    path = UNITS / "diffmsr-node.service"
    try:
        _write_new(path, unit)
    except OSError:
        path = config.with_name("diffmsr-node.service")
        _write_new(path, unit)
    out.print(f"systemd unit   {escape(str(path))}")
    steps = [
        "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin diffmsr",
        f"chown -R diffmsr: {folder}",
        f"chgrp diffmsr {config} && chmod 640 {config}",
        *([f"cp {path} {UNITS}/"] if path.parent != UNITS else []),
        "systemctl daemon-reload && systemctl enable --now diffmsr-node",
        "journalctl -u diffmsr-node -f",
    ]
    for step in steps:
        out.print(escape(f"  {step}"), highlight=False)
