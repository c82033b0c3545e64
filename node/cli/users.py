"""Commands for the users file of the page."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from node.cli.console import out
from node.cli.options import ConfigOption, YesOption
from node.config.loading import load_settings
from node.config.place import find_config
from node.config.web import WebRole
from node.errors import ConfigError, NotFoundError
from node.web.users import HASHER, Account, read_users, write_users

users_app = typer.Typer(help="Add, list and remove the users of the page.", no_args_is_help=True)


@users_app.command("set")
def users_set(
    name: Annotated[str, typer.Argument(help="Name to log in with.")],
    config: ConfigOption = None,
    role: Annotated[
        list[str] | None, typer.Option(help="view, operate (act on jobs) or phi (see who the patient is); repeatable.")
    ] = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user comes through the reverse proxy only.")
    ] = False,
) -> None:
    """Add a user, or change the roles and the password of one. The password is asked for, or read from a pipe.

    Examples: users set anna --role operate --role phi; users set otto --no-password
    """
    path = _users_file(config)
    accounts = read_users(path) if path.exists() else {}
    hashed = None if no_password else HASHER.hash(_password())
    accounts[name] = Account.model_validate({"password": hashed, "roles": _roles(role)})
    write_users(path, accounts)
    out.print(escape(f"{name} may {', '.join(sorted(accounts[name].roles))}; written to {path}"), highlight=False)


@users_app.command("list")
def users_list(config: ConfigOption = None) -> None:
    """List the users and their roles.

    Example: users list
    """
    for name, account in sorted(read_users(_users_file(config)).items()):
        proxy = "" if account.password else "  (through the reverse proxy only)"
        out.print(escape(f"{name}  {', '.join(sorted(account.roles))}{proxy}"), highlight=False)


@users_app.command("remove")
def users_remove(
    name: Annotated[str, typer.Argument(help="Name of the user.")], config: ConfigOption = None, yes: YesOption = False
) -> None:
    """Remove a user, who can then no longer log in. A session that has begun ends when it expires, or at a restart.

    Example: users remove anna --yes
    """
    path = _users_file(config)
    accounts = read_users(path)
    if name not in accounts:
        raise NotFoundError(f"{path} has no user {name}; it has {', '.join(sorted(accounts)) or 'none'}")
    if not yes and not typer.confirm(f"remove {name} from {path}?"):
        raise typer.Exit(1)
    del accounts[name]
    write_users(path, accounts)
    out.print(escape(f"{name} is removed"))


def _users_file(config: Path | None) -> Path:
    path = load_settings(find_config(config)).web.users_file
    if path is None:
        raise ConfigError('[web] users_file is not set; set it first, such as users_file = "users.toml"')
    return path


def _password() -> str:
    if sys.stdin.isatty():
        password = str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < 8:
        raise typer.BadParameter("a password has at least 8 characters")
    return password


def _roles(given: list[str] | None) -> list[WebRole]:
    known: dict[str, WebRole] = {"view": "view", "operate": "operate", "phi": "phi"}
    unknown = set(given or ()) - known.keys()
    if unknown:
        raise typer.BadParameter(f"roles are {', '.join(known)}", param_hint="--role")
    return [known["view"], *(known[name] for name in given or () if name != "view")]
