"""A study processed again, compared with what was kept: is the verdict the same, and are the bytes?

Sources, tracker and archive are only read. New instances go to a folder of their own, and nowhere else.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from node.archive.facade import Archive
from node.config.settings import Settings
from node.derived.derive import derive
from node.derived.sources import Sources
from node.errors import NotFoundError
from node.folder import Folder, explain_folder, read_all
from node.offline import Processed, process_folder
from node.payloads import PairRequest
from node.replay.compare import SeriesComparison, compare_instances, parsed
from node.tracker import instances, views
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.verdicts import Predicate, PredicateValue, StudyVerdict

Progress = Callable[[str, int, int], None]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class GivenAnswer(_Part):
    """The answer to a question of the matching."""

    outcome: str
    code: str | None = None
    value: PredicateValue = None
    threshold: PredicateValue = None


class AnswerChange(_Part):
    """An answer of the matching that differs from the kept one; None where the question was not asked."""

    where: str
    question: str
    kept: GivenAnswer | None
    now: GivenAnswer | None


class PairOutcome(_Part):
    """The outcome of a pair of series: then, by the tracker; now, by this run."""

    target_series_uid: str | None
    reference_series_uid: str | None
    kept: str | None
    now: str | None


class Replay(_Part):
    """One study, compared with what was kept."""

    study_uid: str
    sentence: str
    """The outcome of this run."""
    answers: tuple[AnswerChange, ...]
    outcomes: tuple[PairOutcome, ...]
    series: tuple[SeriesComparison, ...]

    @property
    def identical(self) -> bool:
        return (
            not self.answers
            and all(outcome.kept == outcome.now for outcome in self.outcomes)
            and not any(s.different or s.only_kept or s.only_now for s in self.series)
        )

    def to_json(self) -> dict[str, Any]:
        return {"identical": self.identical, **self.model_dump(mode="json")}


def replay_study(
    database: Database, archive: Archive, study_uid: str, settings: Settings, output: Path, progress: Progress
) -> Replay:
    """Match and process the study as received, with these settings, and compare. NotFoundError when the study is unknown
    or was not matched yet."""
    sources = read_all(instances.of_study(database, archive, study_uid).values())
    kept_verdict = views.verdict(database, study_uid)
    (verdict,) = explain_folder(sources, settings)
    made = views.requests(database, study_uid)
    jobs = [views.job(database, row.id) for row in views.jobs(database, kind=Kind.INFER, study_uid=study_uid)]
    jobs = [job for job in jobs if job.state is not State.CANCELLED]
    kept: dict[str, bytes] = {}
    for job in jobs:
        kept |= _kept(archive, job.key, PairRequest.model_validate(job.payload), made, sources, settings)
    done = list(process_folder(sources, output, settings, progress, made))
    return Replay(
        study_uid=study_uid,
        sentence=" ".join(f"{p.state}: {p.sentence}" for p in done),
        answers=tuple(_changes(kept_verdict, verdict)),
        outcomes=tuple(_outcomes(jobs, done)),
        series=tuple(compare_instances(kept, _files(output / study_uid))),
    )


def replay_folder(
    sources: Folder, against: Path, settings: Settings, output: Path, progress: Progress
) -> Iterator[Replay]:
    """Process every study of a folder and compare it with what an earlier `process` wrote to the folder `against`. There
    is no verdict to compare."""
    if not against.is_dir():
        raise NotFoundError(f"{against} is not a folder")
    done = list(process_folder(sources, output, settings, progress))
    for study_uid in sources.headers:
        yield Replay(
            study_uid=study_uid,
            sentence=" ".join(f"{p.state}: {p.sentence}" for p in done if p.study_uid == study_uid),
            answers=(),
            outcomes=(),
            series=tuple(compare_instances(_files(against / study_uid), _files(output / study_uid))),
        )


def _kept(
    archive: Archive, key: str, request: PairRequest, made: Sequence[PairRequest], sources: Folder, settings: Settings
) -> dict[str, bytes]:
    """The derived instances of a result, encoded now if only the volume was kept because it has no destination."""
    derived = archive.derived(key)
    if derived is not None:
        return {made.sop_uid: archive.derived_instance(made.key, made.sha256).content() for made in derived}
    if not archive.has_result(key):
        return {}
    headers = sources.headers[request.study_uid]
    return dict(derive(archive.open_result(key), Sources(request, made, headers, headers), settings).files())


def _files(folder: Path) -> dict[str, bytes]:
    contents = (path.read_bytes() for path in sorted(folder.rglob("*.dcm")))
    return {str(parsed(content).SOPInstanceUID): content for content in contents}


def _changes(kept: StudyVerdict, now: StudyVerdict) -> Iterator[AnswerChange]:
    before, after = _answers(kept), _answers(now)
    for where, question in dict.fromkeys([*before, *after]):
        one, other = before.get((where, question)), after.get((where, question))
        if one != other:
            yield AnswerChange(where=where, question=question, kept=one, now=other)


def _answers(verdict: StudyVerdict) -> dict[tuple[str, str], GivenAnswer]:
    """Every answer of a verdict, by place and question."""
    answers = {
        ("study", "outcome"): GivenAnswer(outcome=verdict.outcome, code=verdict.code),
        ("study", "model"): GivenAnswer(outcome=f"{verdict.model.name} {verdict.model.version}"),
    }
    for stack in verdict.stacks:
        answers[stack.label, "used as"] = GivenAnswer(outcome=stack.role)
    places = [(stack.label, stack.predicates) for stack in verdict.stacks]
    places += [(f"{pair.target} guided by {pair.reference}", pair.predicates) for pair in verdict.pairs]
    for where, predicates in places:
        answers |= {(where, p.name): _answer(p) for p in predicates}
    for target in verdict.targets:
        answers[target.target, "guided by"] = GivenAnswer(outcome=target.reference or "nothing")
    return answers


def _answer(p: Predicate) -> GivenAnswer:
    return GivenAnswer(outcome=p.outcome, code=p.code, value=p.value, threshold=p.threshold)


def _outcomes(jobs: Sequence[views.JobDetail], done: Sequence[Processed]) -> Iterator[PairOutcome]:
    """Then and now of every pair; of several jobs for a pair, the latest counts."""
    before = {(j.target_series_uid, j.reference_series_uid): _ended(j.state, j.error) for j in jobs}
    after: dict[tuple[str | None, str | None], str] = {
        (p.target_series_uid, p.reference_series_uid): _ended(
            p.state, f"{p.code}: {p.sentence}" if p.code else p.sentence
        )
        for p in done
        if p.target_series_uid is not None
    }
    for target, reference in dict.fromkeys([*before, *after]):
        yield PairOutcome(
            target_series_uid=target,
            reference_series_uid=reference,
            kept=before.get((target, reference)),
            now=after.get((target, reference)),
        )


def _ended(state: str, summary: str | None) -> str:
    return f"{state}, {summary}" if summary and state != "done" else state
