"""Which instances the tracker has, or is about to get, of the studies that are arriving: so that an instance that comes again is
noticed without asking the database each time.

Only this process enters instances of its archive, so nothing is missing here. Another process may purge a study or drop a series; what is
only thought to be known is looked up in the tracker then.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from sqlalchemy import select

from node.tracker.handle import Tracker
from node.tracker.tables import Instance

MOST = 200_000
"""SOP instance UIDs that are remembered, about 20 MB; a single study may have more."""


class KnownInstances:
    """One object serves all threads."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._lock = threading.Lock()
        self._claimed: set[tuple[str, str]] = set()
        """Study and SOP instance UIDs of instances that are being kept, and have no row yet."""
        self._entered: OrderedDict[str, tuple[set[str], set[str]]] = OrderedDict()
        """By study, the one that was used last at the end: SOP instance UIDs and series instance UIDs that have rows."""

    def claim(self, study_uid: str, sop_uid: str) -> bool:
        """Whether the instance is new. Then it counts as known from now on, until it is `released`. DatabaseError."""
        with self._lock:
            if (study_uid, sop_uid) in self._claimed or sop_uid in self._of(study_uid)[0]:
                return False
            self._claimed.add((study_uid, sop_uid))
            return True

    def has_series(self, study_uid: str, series_uid: str) -> bool:
        """Whether an instance of the series has a row. DatabaseError."""
        with self._lock:
            return series_uid in self._of(study_uid)[1]

    def release(self, study_uid: str, sop_uid: str) -> None:
        """A claimed instance was not kept."""
        with self._lock:
            self._claimed.discard((study_uid, sop_uid))

    def entered(self, instances: Iterable[tuple[str, str, str]]) -> None:
        """These instances (study, series, SOP instance UID) have rows now."""
        with self._lock:
            for study_uid, series_uid, sop_uid in instances:
                self._claimed.discard((study_uid, sop_uid))
                if study_uid in self._entered:  # else it is read when it is needed
                    sops, series = self._entered[study_uid]
                    sops.add(sop_uid)
                    series.add(series_uid)

    def _of(self, study_uid: str) -> tuple[set[str], set[str]]:
        """Read while the lock is held: what is entered in between is added afterwards."""
        found = self._entered.get(study_uid)
        if found is None:
            rows = select(Instance.sop_uid, Instance.series_uid).where(Instance.study_uid == study_uid)
            with self._tracker.read() as session:
                pairs = session.execute(rows).all()
            found = self._entered[study_uid] = {sop for sop, _ in pairs}, {series for _, series in pairs}
            while len(self._entered) > 1 and sum(len(sops) for sops, _ in self._entered.values()) > MOST:
                self._entered.popitem(last=False)
        else:
            self._entered.move_to_end(study_uid)
        return found
