"""Three hosts, and what can happen to one of them while the others work: it is cut off and comes back, it dies, and the database is
killed. Judged in the end by an independent reader, as `tests.chaos` is."""

import os
import signal
import time
from pathlib import Path

from tests.acceptance.conftest import Orthanc, echo, run_node
from tests.chaos import reader
from tests.chaos.scanner import SentStudy
from tests.hosts.database import Server
from tests.hosts.host import PORT, Host
from tests.hosts.network import HERE, Network
from tests.waiting import until

ROLES = {
    "a": ("receive", "match", "housekeep"),
    "b": ("infer", "deliver", "housekeep"),
    "c": ("infer", "deliver", "housekeep", "receive"),
}
SLICES, MANY = 4, 24
"""Of a study that is done in a moment, and of one that leaves time for trouble."""


class Story:
    """All that takes part."""

    def __init__(self, folder: Path, network: Network) -> None:
        self._folder = folder
        self.archive = folder / "archive"
        self.archive.mkdir()
        self.server = Server(folder / "postgres", HERE)
        self.server.start()
        self.pacs = Orthanc(folder / "pacs")
        self.pacs.start()
        self.network = network
        self.hosts = {
            name: Host(network, name, roles, folder, self.archive, self.server.url, self.pacs.port)
            for name, roles in ROLES.items()
        }
        self.sent: list[SentStudy] = []
        self.said: list[str] = []

    def start(self) -> None:
        for host in self.hosts.values():
            host.start()
        for name in ("a", "c"):
            until(lambda name=name: self._answers(name), f"host {name} answers C-ECHO")  # type: ignore[misc]

    def one_study_after_the_other(self) -> None:
        began = time.monotonic()
        self.finish(self.send("a"))
        self.finish(self.send("c"))
        self.say("two studies by three hosts", began)

    def one_is_cut_off(self) -> None:
        """The host that infers stands still and loses the network; another one takes its job over. Then it comes back, and
        goes on with what is no longer its own."""
        began = time.monotonic()
        study = self.send("a", MANY)
        worker = until(lambda: self._inferring(study), "somebody infers")
        host = next(h for h in self.hosts.values() if h.node[:8] in worker)
        process = int(worker.rpartition("/")[2])
        os.kill(process, signal.SIGSTOP)
        self.network.cut_off(host.name)
        taken = until(lambda: (now := self._inferring(study)) != worker and now, "another host takes over")
        assert host.node[:8] not in taken
        self.say(f"host {host.name} cut off while it infers: taken over", began)
        self.finish(study)
        self.network.connect(host.name)
        os.kill(process, signal.SIGCONT)
        until(lambda: "job.lost" in host.log(), "the one that was cut off hears that the job is no longer its own")
        self.say("it is back, and its late write is refused", began)

    def the_database_is_killed(self) -> None:
        began = time.monotonic()
        study = self.send("a", MANY)
        until(lambda: self._inferring(study), "somebody infers")
        self.server.kill()
        time.sleep(5)
        self.server.start()
        self.finish(study)
        self.say("database killed for 5 s while a host infers: done", began)

    def one_dies(self) -> None:
        """The host that infers, with all its processes, and for good."""
        began = time.monotonic()
        study = self.send("a", MANY)
        worker = until(lambda: self._inferring(study), "somebody infers")
        host = next(h for h in self.hosts.values() if h.node[:8] in worker)
        host.kill()
        self.finish(study)
        self.say(f"host {host.name} killed while it infers: done by the others", began)
        host.start()
        if "receive" in host.roles:
            until(lambda: self._answers(host.name), f"host {host.name} answers C-ECHO")

    def judge(self) -> list[str]:
        """What does not hold."""
        wrong = []
        holders = self.server.ask(
            "SELECT holder FROM duty WHERE name = 'housekeeping' AND until > now() at time zone 'utc'"
        )
        if len(holders) != 1:
            wrong.append(f"{len(holders)} hosts do the housekeeping")
        for host in self.hosts.values():
            if code := host.stop():
                wrong.append(f"host {host.name}: exit code {code} after SIGTERM")
        where = {"DIFFMSR_NODE_CONFIG": str(self.hosts["a"].config)}
        done = run_node(
            "process", str(self._folder / "scanner"), "--output", str(self._folder / "expected"), environment=where
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return wrong + reader.judge(self.archive, self.server.ask, self.pacs, self.sent, self._folder / "expected")

    def end(self) -> None:
        for host in self.hosts.values():
            if hasattr(host, "process") and host.process.poll() is None:
                host.kill()
        self.pacs.stop()
        self.server.kill()

    def send(self, host: str, slices: int = SLICES) -> SentStudy:
        """All of it, to one host."""
        study = SentStudy(self._folder / "scanner" / str(len(self.sent)), slices)
        self.sent.append(study)
        study.send(PORT, self.hosts[host].address)
        return study

    def finish(self, study: SentStudy) -> None:
        until(
            lambda: reader.is_done(self.server.ask, study.study_uid),
            f"study {study.study_uid} is done",
            lambda: self.server.ask("SELECT count(*), sum(progress) FROM job"),
        )

    def say(self, what: str, since: float) -> None:
        self.said.append(f"{time.monotonic() - since:6.1f} s  {what}")
        print(self.said[-1], flush=True)

    def _inferring(self, study: SentStudy) -> str:
        """The worker that does, or nothing."""
        query = f"SELECT worker FROM job WHERE kind = 'infer' AND state = 'running' AND study_uid = '{study.study_uid}'"
        return next((worker for (worker,) in self.server.ask(query)), "")

    def _answers(self, name: str) -> bool:
        host = self.hosts[name]
        assert host.process.poll() is None, host.log()[-3000:]
        return echo(PORT, "DIFFMSR", host.address)


def run(folder: Path) -> list[str]:
    """What does not hold in the end."""
    with Network(list(ROLES)) as network:
        story = Story(folder, network)
        try:
            story.start()
            story.one_study_after_the_other()
            story.one_is_cut_off()
            story.the_database_is_killed()
            story.one_dies()
            story.one_study_after_the_other()
            return story.judge()
        finally:
            story.end()
