"""Who sees what, and who may do what."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from node.tracker import views
from node.tracker.states import State
from node.tracker.trail import AuditFilter, rows
from node.web.app import create_app
from node.web.sessions import Attempts, Sessions
from node.web.users import User
from tests.web.conftest import PASSWORD, House, Person, fill, make_site
from tests.web.content import SCRIPT

PAGES = ("/", "/dashboard", "/studies", "/studies/rows", "/jobs", "/jobs/rows", "/rules")


def pages_of(house: House) -> list[str]:
    """Every page that somebody with all roles can open."""
    shown, hostile = house.shown, house.hostile
    of_studies = [f"/studies/{filled.study_uid}" for filled in (shown, hostile, house.waiting)]
    of_jobs = [
        f"/jobs/{job}{part}" for job in (shown.infer, hostile.deliver) for part in ("", "/live", "/viewer", "/layers")
    ]
    return [
        *PAGES,
        "/audit",
        *of_studies,
        *of_jobs,
        f"/jobs/{shown.deliver}/layers/slices/0",
        f"/jobs/{house.waiting.match}",
    ]


def test_nobody_sees_anything_without_logging_in(house: House) -> None:
    nobody = Person(house.site)
    for path in pages_of(house):
        answer = nobody.get(path)
        assert answer.status_code == 303, path
        assert "/login?next=" in answer.headers["location"]
    assert nobody.client.get("/jobs/rows", headers={"HX-Request": "true"}).status_code == 401
    assert nobody.get("/health/live").json() == {"status": "live"}
    assert nobody.get("/health/ready").json() == {"status": "ready", "failing": []}


def test_everybody_who_logs_in_sees_the_pages_and_every_answer_has_a_strict_policy(house: House) -> None:
    anna = Person(house.site, "anna")
    for path in (*pages_of(house), "/login", "/health/live", "/static/site.css", "/nowhere"):
        answer = anna.get(path)
        assert answer.status_code in (200, 303, 404), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert not re.search(r"<style|<script(?! (type=\"module\" )?src=)| style=| on[a-z]+=[\"']", answer.text), (
                path
            )


def test_readiness_names_what_fails_and_says_no_more(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    object.__setattr__(site, "failing", lambda: ["disk space"])
    answer = Person(site).get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "failing": ["disk space"]}


@pytest.mark.parametrize("act", ["retry", "cancel", "hold", "release", "resend"])
def test_a_role_that_may_only_view_is_refused_and_sees_no_button(house: House, act: str) -> None:
    vera = Person(house.site, "vera")
    page = vera.get(f"/jobs/{house.held.deliver}").text
    assert "/ask/" not in page
    assert 'name="id"' not in vera.get("/jobs").text
    answer = vera.post(f"/acts/{act}", id=str(house.held.deliver))
    assert answer.status_code == 403
    assert vera.get(f"/ask/{act}?id={house.held.deliver}").status_code == 403
    assert vera.get("/audit").status_code == 403
    assert views.job(house.site.tracker.database, house.held.deliver or 0).state is State.HELD


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_forged_token_is_refused(house: House, token: str) -> None:
    otto = Person(house.site, "otto")
    answer = otto.client.post("/acts/release", data={"id": str(house.held.deliver), "csrf_token": token})
    assert answer.status_code == 403
    assert otto.client.post("/logout", data={"csrf_token": token}).status_code == 403
    assert otto.client.post("/rules", files={"file": b"x"}, headers={"X-CSRF-Token": token}).status_code == 403
    assert views.job(house.site.tracker.database, house.held.deliver or 0).state is State.HELD
    assert otto.get("/").status_code == 200


def test_the_token_of_another_session_is_refused(house: House) -> None:
    otto, anna = Person(house.site, "otto"), Person(house.site, "anna")
    assert otto.post("/acts/release", id=str(house.held.deliver), csrf_token=anna.token()).status_code == 403


def test_an_act_is_carried_out_and_recorded_with_the_user(fresh: House) -> None:
    otto = Person(fresh.site, "otto")
    asked = otto.get(f"/ask/release?id={fresh.held.deliver}")
    assert "Release 1 job?" in asked.text
    answer = otto.post("/acts/release", id=str(fresh.held.deliver))
    assert "1 job released" in answer.text
    job = views.job(fresh.site.tracker.database, fresh.held.deliver or 0)
    assert job.state is State.READY
    assert job.events[-1].actor == "otto"
    again = otto.post("/acts/release", id=str(fresh.held.deliver))
    assert "stays as it is" in again.text
    assert "otto" in otto.get("/audit?action=administered").text


def test_a_cookie_that_was_copied_is_worth_nothing_after_the_log_out(fresh: House) -> None:
    anna = Person(fresh.site, "anna")
    stolen = dict(anna.client.cookies)
    thief = Person(fresh.site)
    thief.client.cookies.update(stolen)
    thief.client.app = anna.client.app
    assert anna.get("/").status_code == 200
    anna.post("/logout")
    assert anna.get("/").status_code == 303
    assert thief.get("/").status_code == 303


def test_a_session_ends_when_nobody_clicks_and_the_page_alone_does_not_keep_it() -> None:
    now = [0.0]
    sessions = Sessions(idle_s=60, longest_s=300, clock=lambda: now[0])
    user = User("anna", frozenset({"view"}))
    token = sessions.begin(user)
    now[0] = 50
    assert sessions.user(token, active=True) == user
    now[0] = 100
    assert sessions.user(token, active=False) == user
    now[0] = 111
    assert sessions.user(token, active=True) is None
    busy = sessions.begin(user)
    for now[0] in range(150, 411, 50):
        assert sessions.user(busy, active=True) == user
    now[0] = 412
    assert sessions.user(busy, active=True) is None


def test_guessing_is_slowed_down_by_name_and_by_address() -> None:
    now = [0.0]
    attempts = Attempts(clock=lambda: now[0])
    for _ in range(Attempts.FREE["name"]):
        assert attempts.wait_s("anna", "10.0.0.1") == 0
        attempts.failed("anna", "10.0.0.1")
    assert attempts.wait_s("anna", "10.0.0.2") == Attempts.FIRST_S
    assert attempts.wait_s("otto", "10.0.0.1") == 0
    now[0] = Attempts.FIRST_S
    assert attempts.wait_s("anna", "10.0.0.1") == 0
    attempts.failed("anna", "10.0.0.1")
    assert attempts.wait_s("anna", "10.0.0.1") == 2 * Attempts.FIRST_S
    for n in range(Attempts.FREE["address"]):
        attempts.failed(f"name{n}", "10.0.0.3")
    assert attempts.wait_s("somebody", "10.0.0.3") > 0
    attempts.succeeded("anna", "10.0.0.1")
    assert attempts.wait_s("anna", "10.0.0.1") == 0


def test_a_wrong_password_is_refused_and_soon_has_to_wait(fresh: House) -> None:
    nobody = Person(fresh.site)
    for _ in range(Attempts.FREE["name"]):
        answer = nobody.client.post("/login", data={"name": "anna", "password": "guess"})
        assert answer.status_code == 401
    answer = nobody.client.post("/login", data={"name": "anna", "password": PASSWORD})
    assert answer.status_code == 429
    assert "set-cookie" not in answer.headers


def test_a_log_in_that_another_site_sends_is_refused_and_leads_nowhere_else(house: House) -> None:
    nobody = Person(house.site)
    form = {"name": "anna", "password": PASSWORD}
    assert nobody.client.post("/login", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        answer = nobody.client.post("/login", data=form | {"next": elsewhere})
        assert answer.headers["location"] == "/", elsewhere


@pytest.mark.parametrize(
    "path",
    [
        "/static/../users.toml", "/static/%2e%2e/users.toml", "/static/..%2f..%2fusers.toml", "/static//etc/passwd",
        "/studies/..%2f..%2fetc%2fpasswd", "/studies/../../users.toml", "/jobs/..%2f1/layers", "/jobs/1/layers/slices/..%2f0",
    ],
)  # fmt: skip
def test_a_path_with_dots_leads_nowhere(house: House, path: str) -> None:
    answer = Person(house.site, "anna").get(path)
    assert answer.status_code in (400, 404)
    assert "argon2" not in answer.text


def test_who_the_patient_is_only_they_see_who_may(house: House) -> None:
    anna, otto = Person(house.site, "anna"), Person(house.site, "otto")
    for path in pages_of(house):
        assert not re.search(r"Doe|Jane|\bP1\b|Moe", otto.get(path).text), path
    assert "Doe, Jane" in anna.get("/studies").text
    assert "Doe, Jane" in anna.get(f"/jobs/{house.shown.infer}").text
    for text in ("Doe", "P1", "A1"):
        assert house.shown.study_uid in anna.get(f"/studies?text={text}").text
        assert house.shown.study_uid not in otto.get(f"/studies?text={text}").text
    seen = rows(house.site.tracker.database, AuditFilter(study_uid=house.shown.study_uid)).rows
    assert {row.actor for row in seen if row.action == "viewed"} >= {"anna", "otto"}  # otto saw the images


def test_markup_in_a_name_stays_text(house: House) -> None:
    anna = Person(house.site, "anna")
    shown = 0
    for path in pages_of(house):
        text = anna.get(path).text
        assert "<script>window" not in text, path
        assert "<img src=x" not in text, path
        shown += "&lt;script&gt;window" in text
    assert shown > 5


def test_a_proxy_is_believed_only_at_its_address(tmp_path: Path) -> None:
    site = fill(make_site(tmp_path, {"proxy_addresses": ["10.0.0.0/24"], "proxy_roles": ["view"]})).site
    app = create_app(site)
    header = {"X-Remote-User": "anna", "Accept": "text/html"}
    trusted = TestClient(app, client=("10.0.0.7", 1), follow_redirects=False)
    other = TestClient(app, client=("10.0.1.7", 1), follow_redirects=False)
    assert other.get("/", headers=header).status_code == 303
    assert "anna" in trusted.get("/", headers=header).text
    assert "Doe, Jane" in trusted.get("/studies", headers=header).text
    unknown = trusted.get("/jobs", headers=header | {"X-Remote-User": "zoe"})
    assert unknown.status_code == 200
    assert "Doe" not in unknown.text
    assert trusted.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_without_log_in_it_is_for_this_machine_and_shows_no_names(tmp_path: Path) -> None:
    house = fill(make_site(tmp_path, users=False))
    here = Person(house.site, base="http://localhost")
    for path in pages_of(house):
        if path == "/audit":
            continue
        answer = here.get(path)
        assert answer.status_code == 200, path
        assert "Doe" not in answer.text
        assert "/ask/" not in answer.text
    assert here.post("/acts/release", id=str(house.held.deliver)).status_code == 403
    assert Person(house.site, base="http://evil.example").get("/").status_code == 400


def test_a_name_that_searches_is_escaped_in_the_form(house: House) -> None:
    answer = Person(house.site, "anna").client.get("/studies", params={"text": '"><script>1</script>'})
    assert "<script>1" not in answer.text
    assert SCRIPT not in answer.text
