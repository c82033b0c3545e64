"""The image and the compose file: well-formed, closed, and in agreement with each other and with the program."""

import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from node.config.loading import load_settings
from node.config.settings import Settings
from node.config.web import WebSettings
from node.locks import only_one
from node.roles import Role
from node.web.server import WebServer
from tests.unit.deploy import DEPLOY, ROOT, lint, roles_of
from tests.waiting import until
from tests.web.conftest import make_site

DOCKER = DEPLOY / "docker"
STATE = "/var/lib/diffmsr-node"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(DOCKER / "node.toml")


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    lint("hadolint", DOCKER / "Dockerfile")


def test_the_compose_files_follow_the_specification() -> None:
    files = sorted(DOCKER.glob("compose*.yml"))
    assert len(files) == 4
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def test_yaml_is_tidy() -> None:
    chart = DEPLOY / "helm" / "diffmsr-node"
    lint("yamllint", "--strict", *DEPLOY.glob("*.yml"), DOCKER, *chart.glob("*.yaml"), ROOT / "mkdocs.yml")


def test_the_image_runs_without_privileges_and_has_what_the_build_needs() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    final = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in final
    assert "install" not in final.partition("useradd")[0], "nothing is installed in the final image"
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*", "everything is left out but what is named"
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    assert {*needed, "pyproject.toml"} <= kept
    for copied in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.MULTILINE):
        assert copied == "." or copied in kept


def test_every_file_that_a_container_mounts_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source == "./tls" or (DOCKER / source).is_file(), volume
            if source.startswith("."):
                assert volume.endswith(":ro")


def test_the_node_writes_in_its_volume_and_in_tmp_alone(compose: dict[str, Any], settings: Settings) -> None:
    node = compose["services"]["node"]
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert [entry.split(":")[0] for entry in node["tmpfs"]] == ["/tmp"]
    writable = [volume.split(":")[1] for volume in node["volumes"] if not volume.endswith(":ro")]
    assert writable == [STATE] == [str(settings.node.data_dir)]
    assert settings.web.users_file is not None
    assert settings.web.users_file.is_relative_to(STATE), "`users set` writes it"


def test_ports_and_titles_agree(compose: dict[str, Any], settings: Settings) -> None:
    (scp, page) = compose["services"]["node"]["ports"]
    assert scp.endswith(f":{settings.scp.port}")
    assert page == f"127.0.0.1:{settings.web.port}:{settings.web.port}", "without TLS the page stays on the host"
    exposed = re.findall(r"^EXPOSE (.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert exposed == [f"{settings.scp.port} {settings.web.port}"]
    (pacs,) = settings.destinations
    orthanc = json.loads((DOCKER / "orthanc.json").read_text())
    assert pacs.host in compose["services"]
    assert (pacs.ae_title, pacs.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    assert orthanc["DicomModalities"]["diffmsr"] == [settings.scp.ae_title, "node", settings.scp.port]
    assert orthanc["AuthenticationEnabled"] is True


def test_the_hosts_have_all_roles_and_share_database_and_archive() -> None:
    hosts = yaml.safe_load((DOCKER / "compose.hosts.yml").read_text())
    bucket = yaml.safe_load((DOCKER / "compose.s3.yml").read_text())
    nodes = {name: service for name, service in hosts["services"].items() if "command" in service}
    assert {Role(role) for node in nodes.values() for role in roles_of(node["command"])} == set(Role)
    assert set(bucket["services"]) == set(nodes)
    for node in nodes.values():
        place = node["environment"]["DIFFMSR_NODE_STORAGE__ARCHIVE"]
        assert f"archive:{place}" in node["volumes"]
        assert place in (DOCKER / "Dockerfile").read_text(), "it belongs to the user of the image"
        assert node["secrets"] == ["database_url"] and "s3" in node["build"]["args"]["EXTRAS"]
        for volume in node["volumes"]:
            source = volume.split(":")[0]
            assert source in hosts["volumes"] or source == "./tls" or (DOCKER / source).is_file(), volume
    own = [v.split(":")[0] for node in nodes.values() for v in node["volumes"] if v.endswith(f":{STATE}")]
    assert len(own) == len(set(own)) == len(nodes) - 1, "infer, which is scaled, has one for each container"
    ports = {name: node["ports"] for name, node in nodes.items() if "ports" in node}
    assert {name: Role(name) for name in ports} == {"receive": Role.RECEIVE, "web": Role.WEB}
    assert "node" in nodes["receive"]["networks"]["dicom"]["aliases"], "where Orthanc reports to"


def test_every_role_that_a_text_names_is_one() -> None:
    """In what people copy: documentation, comments, deploy/. `users set --role` has roles of its own."""
    texts = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *DEPLOY.rglob("*.y*ml"), *DEPLOY.rglob("*.service")]
    found = [(path, line) for path in texts for line in path.read_text().splitlines() if "--role" in line]
    started = [
        (path, name) for path, line in found if "users set" not in line for name in re.findall(r"--role,? (\w+)", line)
    ]
    assert started
    for path, name in started:
        assert name in list(Role), f"{path}: {name}"


def test_every_secret_is_made_and_the_database_knows_the_password(
    compose: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    script = tmp_path / "make-secrets.sh"
    shutil.copy(DOCKER / "make-secrets.sh", script)
    subprocess.run([script], check=True, capture_output=True)
    made = {path: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} == {path.name for path in made}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert str(settings.node.database_url_file) == "/run/secrets/database_url"
    assert "database_url" in compose["services"]["node"]["secrets"]
    environment = compose["services"]["postgres"]["environment"]
    password = (tmp_path / "secrets" / "postgres_password").read_text()
    url = (tmp_path / "secrets" / "database_url").read_text().strip()
    user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    assert url == f"postgresql+psycopg://{user}:{password}@postgres/{database}"
    assert len(password) == 48
    assert json.loads((tmp_path / "secrets" / "orthanc_users.json").read_text())["RegisteredUsers"]["admin"]
    subprocess.run([script], check=True, capture_output=True)
    assert made == {path: path.read_text() for path in (tmp_path / "secrets").iterdir()}, "what is there is kept"


@pytest.mark.parametrize(
    ("web", "url"),
    [
        ({"host": "0.0.0.0", "users_file": "u"}, "http://127.0.0.1:8090/health/live"),
        ({"host": "::", "users_file": "u", "port": 443}, "http://[::1]:443/health/live"),
        ({"tls": {"cert_file": "c", "key_file": "k"}}, "https://127.0.0.1:8090/health/live"),
    ],
)
def test_the_health_check_asks_where_the_page_listens(web: dict[str, Any], url: str) -> None:
    from deploy.docker import healthcheck

    assert healthcheck.url(WebSettings.model_validate(web), "live") == url


def test_the_health_check_says_what_the_node_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploy.docker import healthcheck

    failing: list[str] = []
    site = replace(make_site(tmp_path), failing=lambda: failing)
    config = tmp_path / "node.toml"
    config.write_text(f'web = {{ port = {site.settings.web.port}, users_file = "users.toml" }}\n')
    monkeypatch.setenv("DIFFMSR_NODE_CONFIG", str(config))
    monkeypatch.setattr("sys.argv", ["healthcheck.py", "ready"])
    assert healthcheck.main() == 1, "nobody answers"
    server = WebServer(site)
    server.start()
    try:
        until(lambda: healthcheck.main() == 0, "the node answers")
        failing.append("disk")
        assert healthcheck.main() == 1
    finally:
        server.stop()
    assert capsys.readouterr().out.splitlines()[-1] == '{"status":"not ready","failing":["disk"]}'


def test_a_host_without_the_page_is_healthy_while_its_roles_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deploy.docker import healthcheck

    config = tmp_path / "node.toml"
    config.write_text('node.data_dir = "data"\n')
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DIFFMSR_NODE_CONFIG", str(config))
    monkeypatch.setattr("sys.argv", ["healthcheck.py", "live"])
    assert healthcheck.main() == 1, "nothing runs"
    with only_one(tmp_path / "data", [Role.INFER]):
        assert healthcheck.main() == 0
        assert capsys.readouterr().out.splitlines()[-1] == '{"roles": ["infer"], "failing": []}'
        monkeypatch.setattr("sys.argv", ["healthcheck.py", "ready"])
        monkeypatch.setenv("DIFFMSR_NODE_STORAGE__ARCHIVE", str(tmp_path / "not mounted"))
        assert healthcheck.main() == 1
    assert "archive" in capsys.readouterr().out.splitlines()[-1]
