"""Alert rules and dashboard, as Prometheus itself reads them. tests/web/test_metrics.py compares their metrics with ours."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.unit.deploy import DEPLOY, lint

RULES = DEPLOY / "prometheus-alerts.yml"
CASES = Path(__file__).parent / "alerts.yml"


def test_prometheus_reads_the_rules() -> None:
    lint("promtool", "check", "rules", "--lint-fatal", RULES)


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    lint("promtool", "test", "rules", CASES)
    rules = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    (case,) = yaml.safe_load(CASES.read_text())["tests"]
    assert rules == {test["alertname"] for test in case["alert_rule_test"] if "exp_alerts" in test}


def test_prometheus_reads_every_question_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    questions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(questions) > 8
    rules: list[dict[str, Any]] = [
        {"record": f"question:{number}", "expr": text} for number, text in enumerate(questions)
    ]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    lint("promtool", "check", "rules", path)
