"""All questions of the doctor, in the order of an installation."""

from collections.abc import Iterator

from node import checks
from node.checks import Check, Level
from node.config.settings import Settings
from node.doctor.certificates import certificates
from node.doctor.host import clock, durable_writes, ports
from node.doctor.messages import messages
from node.doctor.patience import patience
from node.doctor.peers import peers
from node.doctor.secrets import secrets
from node.errors import ConfigError
from node.web.users import read_users


def examine(settings: Settings, *, golden: bool = False, send_test: bool = False) -> Iterator[Check]:
    """Every answer, as soon as it is known. `golden` runs the shipped study through the model, unless a precondition does
    not hold. `send_test` leaves a marked test image at each destination."""
    preconditions = checks.run(settings, checks.TO_START)
    yield from preconditions
    able = all(answer.level is not Level.FAIL for answer in preconditions)
    if able:
        yield durable_writes(settings)
    yield clock(settings)
    if settings.web.users_file is not None:
        yield users(settings)
    yield from certificates(settings)
    yield from secrets(settings)
    yield from patience(settings)
    if able:
        yield from ports(settings)
    yield from peers(settings)
    if settings.notify is not None:
        yield messages(settings, send_test=send_test)
    if golden and able:
        from node.doctor.golden import golden as golden_study  # loads torch

        yield golden_study(settings)
    if send_test:
        from node.doctor.trial import trials  # loads what the demonstration needs, torch too

        yield from trials(settings)


def users(settings: Settings) -> Check:
    """Somebody can log in to the page, and somebody may act."""
    name, path = "users", settings.web.users_file
    assert path is not None
    try:
        accounts = read_users(path)
    except ConfigError as error:
        return Check(name, Level.FAIL, str(error), "write it with: diffmsr-node users set NAME --role operate")
    if not any("operate" in account.roles for account in accounts.values()):
        fix = "diffmsr-node users set NAME --role operate"
        return Check(name, Level.WARN, f"nobody in {path} has the role operate, so nobody can act on jobs", fix)
    return Check(name, Level.OK, f"{len(accounts)} in {path}")
