"""What the pages stand on. The service makes one, and puts in what only it knows; the pages get it with every request."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from node.archive.facade import Archive
from node.config.settings import Settings
from node.dicom.read import Readable
from node.tracker.handle import Tracker
from node.verdicts import StudyVerdict
from node.web.sessions import Attempts, Sessions
from node.web.users import Users

Explained = tuple[Sequence[StudyVerdict], Sequence[tuple[Readable, str]]]
"""(verdicts, what was not used and why)."""


@dataclass
class Site:
    """One node, as its pages see it."""

    settings: Settings
    """Those in force: a reload replaces them."""
    tracker: Tracker
    archive: Archive
    model: str
    """Name and version of the configured model."""
    explain: Callable[[Iterable[Readable]], Explained]
    """What `diffmsr-node explain FOLDER` says on these instances."""
    failing: Callable[[], Sequence[str]]
    """The names of the preconditions that do not hold at the moment."""
    users: Users = field(init=False)
    sessions: Sessions = field(init=False)
    attempts: Attempts = field(init=False, default_factory=Attempts)

    def __post_init__(self) -> None:
        web = self.settings.web
        self.users = Users(web.users_file)
        self.sessions = Sessions(web.session_idle_minutes * 60, web.session_hours * 3600)

    def reload(self, settings: Settings) -> None:
        """Go by other settings. Those of the page itself count from a start on."""
        self.settings = settings


def site_of(request: Request) -> Site:
    """The site that a request is for."""
    site: Site = request.app.state.site
    return site


CurrentSite = Annotated[Site, Depends(site_of)]
