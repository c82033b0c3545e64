"""Metrics say what happened since the start, wherever it happened, and nothing of patients."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import yaml

from node.config.settings import Settings, SourceSettings
from node.tracker import administration, pauses, queue
from node.tracker.audit import Action, audit
from node.tracker.outcomes import Done, Refused, Retry
from node.tracker.states import Kind
from node.web.metrics import Metrics
from tests.web.conftest import House, Person, make_site

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = yaml.safe_load((DEPLOY / "prometheus-alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]


def scrape(person: Person) -> dict[str, float]:
    answer = person.get("/metrics")
    assert answer.status_code == 200
    samples = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in samples}


def test_jobs_are_counted_as_they_end(fresh: House) -> None:
    tracker, nobody = fresh.site.tracker, Person(fresh.site)
    assert not any(name.startswith("diffmsr_jobs_total") for name in scrape(nobody))
    administration.release(tracker, fresh.held.deliver or 0, "otto")
    claim = queue.claim(tracker, Kind.DELIVER, "worker/1")
    assert claim is not None
    queue.settle(tracker, claim, Retry("the PACS is away", 0))
    again = queue.claim(tracker, Kind.DELIVER, "worker/1")
    assert again is not None
    queue.settle(tracker, again, Done("sent"))
    administration.replay(tracker, fresh.shown.infer or 0, "otto")
    refused = queue.claim(tracker, Kind.REPLAY, "worker/1")
    assert refused is not None
    queue.settle(tracker, refused, Refused("E_NO_REFERENCE", "No reference fits."))
    found = scrape(nobody)
    assert found['diffmsr_jobs_total{kind="deliver",state="retry-wait"}'] == 1
    assert found['diffmsr_jobs_total{kind="deliver",state="done"}'] == 1
    assert found['diffmsr_refusals_total{code="E_NO_REFERENCE",kind="replay"}'] == 1
    assert found['diffmsr_job_seconds_count{kind="deliver"}'] == 2
    assert scrape(nobody)['diffmsr_job_seconds_count{kind="deliver"}'] == 2, "nothing is counted twice"


def test_what_is_so_at_the_moment(fresh: House) -> None:
    pauses.pause(fresh.site.tracker, pauses.INFERENCE, "otto")
    found = scrape(Person(fresh.site))
    assert found['diffmsr_queue_jobs{destination="pacs",kind="deliver",state="held"}'] == 1
    assert found['diffmsr_queue_oldest_seconds{destination="",kind="match",state="waiting-pair"}'] >= 300
    assert found['diffmsr_paused{what="inference"}'] == 1
    assert found["diffmsr_ready"] == 1
    assert found["diffmsr_kept_studies"] == 5
    assert found["diffmsr_disk_free_bytes"] > 0
    assert found['diffmsr_device_memory_peak_bytes{device="cpu"}'] == 2**30
    last = found['diffmsr_destination_last_success_timestamp_seconds{destination="pacs"}']
    assert 0 < datetime.now(UTC).timestamp() - last < 86400
    pauses.resume(fresh.site.tracker, pauses.INFERENCE, "otto")
    assert 'diffmsr_paused{what="inference"}' not in scrape(Person(fresh.site))


def test_peers_have_the_names_of_the_configuration_and_strangers_one_together(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    settings: Settings = site.settings
    object.__setattr__(
        site, "settings", settings.model_copy(update={"sources": [SourceSettings(name="mr1", ae_title="MR1")]})
    )
    nobody = Person(site)
    for peer in ("MR1", "DOE^JANE", "<script>"):
        audit(site.tracker, Action.ASSOCIATION, peer, details={"host": "10.0.0.1", "stored": 17, "refused": 1})
    audit(site.tracker, Action.ASSOCIATION, "X", details={"host": "10.0.0.1", "rejected": "unknown"})
    audit(site.tracker, Action.REFUSED, "MR1", details={"sop_instance": "1.2", "status": "0xA700", "reason": "full"})
    audit(site.tracker, Action.SENT, "worker", details={"destination": "pacs", "instances": 9, "job": 1})
    found = scrape(nobody)
    assert found['diffmsr_associations_total{outcome="accepted",peer="mr1"}'] == 1
    assert found['diffmsr_associations_total{outcome="accepted",peer="other"}'] == 2
    assert found['diffmsr_associations_total{outcome="rejected",peer="other"}'] == 1
    assert found['diffmsr_instances_received_total{peer="other"}'] == 34
    assert found['diffmsr_instances_refused_total{peer="mr1",status="0xA700"}'] == 1
    assert found['diffmsr_instances_sent_total{destination="pacs"}'] == 9
    assert not [name for name in found if "DOE" in name or "script" in name]


def test_no_metric_holds_what_a_patient_is_known_by(house: House) -> None:
    text = Person(house.site).get("/metrics").text
    assert not re.search(r"Doe|Jane|Moe|\bP1\b|1\.2\.826|script", text)


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(fresh: House) -> None:
    known = set(re.findall(r"^# TYPE (diffmsr_\w+)", Person(fresh.site).get("/metrics").text, re.MULTILINE))
    known |= {f"{name}{part}" for name in known for part in ("_bucket", "_count", "_sum", "_total")}
    for name in ("prometheus-alerts.yml", "grafana-dashboard.json"):
        asked = set(re.findall(r"\bdiffmsr_\w+", (DEPLOY / name).read_text()))
        assert asked, name
        assert asked <= known, name


def test_alerts_and_dashboard_ask_for_labels_that_these_metrics_have(fresh: House) -> None:
    collectors = set(Metrics(fresh.site).registry._names_to_collectors.values())
    labels = {collector._name: set(collector._labelnames) for collector in collectors}  # type: ignore[attr-defined]
    questions = [(rule["expr"], str(rule["annotations"])) for rule in RULES]
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    questions += [(t["expr"], t.get("legendFormat", "")) for panel in dashboard["panels"] for t in panel["targets"]]
    for expression, words in questions:
        known = {"instance", "job", "le"}
        for name in re.findall(r"\bdiffmsr_\w+", expression):
            known |= next(
                found for base, found in labels.items() if re.fullmatch(rf"{base}(_bucket|_count|_sum|_total)?", name)
            )
        asked = set(re.findall(r"(\w+)(?:=|!=|=~)\"", expression))
        asked |= {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
        asked |= set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", words))
        assert asked <= known, expression
