"""The Helm chart, rendered by Helm: what it makes is valid for Kubernetes, and its configuration for the program."""

import json
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from node.config.loading import load_settings
from node.config.settings import Settings
from node.roles import Role
from tests.unit.deploy import DEPLOY, roles_of

CHART = DEPLOY / "helm" / "diffmsr-node"
KUBERNETES = "1.31.0"
EVERYTHING = {
    "config": '[scp.tls]\ncert_file = "tls/tls.crt"\nkey_file = "tls/tls.key"\n',
    "database": {"existingSecret": "diffmsr-database"},
    "users": {"existingSecret": "diffmsr-users"},
    "tls": {"existingSecret": "diffmsr-tls"},
    "persistence": {"storageClass": "fast"},
    "service": {"dicom": {"type": "LoadBalancer"}},
    "networkPolicy": {"enabled": True, "dicomFrom": [{"ipBlock": {"cidr": "10.1.0.0/24"}}]},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "podAnnotations": {"site": "mr"},
    "extraEnv": [{"name": "AWS_REGION", "value": "eu"}],
    "affinity": {"podAntiAffinity": {}},
}
SHARED = {
    "database": {"existingSecret": "diffmsr-database"},
    "hosts": [
        {"name": "receive", "roles": ["receive", "match"]},
        {"name": "infer", "roles": ["infer"], "replicas": 2, "resources": {"limits": {"nvidia.com/gpu": 1}}},
        {"name": "rest", "roles": ["deliver", "housekeep", "web"], "size": "1Gi"},
    ],
}
VALUES = pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])


def render(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects that an installation makes, by kind and name."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="sr", namespace="imaging")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    objects = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in objects}


def pod(objects: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    spec = objects["StatefulSet/sr-diffmsr-node"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def test_helm_finds_nothing_to_complain_about() -> None:
    found = helm.lint(CHART, EVERYTHING, strict=True)
    assert found["errors"] == []
    assert [one for one in found["messages"] if one["severity"] > 1] == []


@VALUES
def test_kubernetes_accepts_every_object(values: dict[str, Any]) -> None:
    objects = render(values)
    for one in objects.values():
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    pages = {name for name in objects if name.endswith("-web") or name.startswith("NetworkPolicy")}
    assert bool(pages) == bool(values)


@VALUES
def test_the_program_reads_the_configuration_with_what_the_chart_sets(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(values)
    spec, container = pod(objects)
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    config = tmp_path / "node.toml"
    config.write_text(objects["ConfigMap/sr-diffmsr-node"]["data"]["node.toml"])
    settings: Settings = load_settings(config)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert str(settings.node.data_dir) in mounts
    if values:
        assert settings.node.database_url_file is not None and settings.web.users_file is not None
        for file in (settings.node.database_url_file, settings.web.users_file):
            (secret,) = [v["secret"] for v in spec["volumes"] if v["name"] == mounts[str(file.parent)]["name"]]
            assert secret["items"][0]["path"] == file.name
        assert settings.scp.tls is not None
        assert settings.scp.tls.cert_file == tmp_path / "tls" / "tls.crt", (
            "beside the configuration, where tls is mounted"
        )
        assert "/etc/diffmsr-node/tls" in mounts
    else:
        assert settings.web.open_to_all and settings.node.url.startswith("sqlite")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"dicom": settings.scp.port, "web": settings.web.port}


@VALUES
def test_the_pod_is_closed(values: dict[str, Any]) -> None:
    spec, container = pod(render(values))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for mount in container["volumeMounts"]:
        assert mount.get("readOnly") or mount["name"] in ("data", "temporary"), mount
    assert not [variable for variable in container["env"] if "PASSWORD" in variable["name"]], "secrets come from files"


def test_a_changed_configuration_starts_the_pod_again() -> None:
    def digest(values: dict[str, Any]) -> str:
        template = render(values)["StatefulSet/sr-diffmsr-node"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert digest({}) == digest({}) != digest(EVERYTHING)


@pytest.mark.parametrize(
    "values", [{"image": {"repositry": "x"}}, {"persistence": {"accessModes": ["ReadWriteMany"]}}, {"replicas": 2}]
)
def test_values_that_nobody_can_mean_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm.HelmValuesError):
        render(values)


@pytest.mark.parametrize(
    ("archive", "place"),
    [
        ({"existingClaim": "images"}, "/var/lib/diffmsr-archive"),
        ({"s3": {"url": "s3://images/sr", "endpointUrl": "https://s3", "existingSecret": "keys"}}, "s3://images/sr"),
    ],
)
def test_several_hosts_share_the_work(
    archive: dict[str, Any], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = SHARED | {"archive": archive, "users": {"existingSecret": "users"}}
    assert helm.lint(CHART, values, strict=True)["errors"] == []
    objects = render(values)
    for one in objects.values():
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    sets = {o["metadata"]["name"].split("-")[-1]: o["spec"] for o in objects.values() if o["kind"] == "StatefulSet"}
    commands = {name: spec["template"]["spec"]["containers"][0]["args"] for name, spec in sets.items()}
    assert {name: roles_of(command) for name, command in commands.items()} == {
        host["name"]: host["roles"] for host in SHARED["hosts"]
    }
    assert [spec["replicas"] for spec in sets.values()] == [1, 2, 1]
    selectors = [spec["selector"]["matchLabels"] for spec in sets.values()]
    assert len({tuple(labels.items()) for labels in selectors}) == 3, "no two of them manage the same pods"
    pods = {name: spec["template"]["metadata"]["labels"] for name, spec in sets.items()}
    chosen = {
        name: [pod for pod, labels in pods.items() if service["spec"]["selector"].items() <= labels.items()]
        for name, service in objects.items()
        if service["kind"] == "Service"
    }
    assert chosen == {"Service/sr-diffmsr-node": ["receive"], "Service/sr-diffmsr-node-web": ["rest"]}
    container = sets["infer"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    config = tmp_path / "node.toml"
    config.write_text(objects["ConfigMap/sr-diffmsr-node"]["data"]["node.toml"])
    assert load_settings(config).storage.archive == place
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert (place if "existingClaim" in archive else "/run/secrets/s3") in mounts


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ({"database": {"existingSecret": ""}}, "one tracker"),
        ({"archive": {}}, "one archive"),
        ({"hosts": SHARED["hosts"][:2]}, "none has the role deliver"),
    ],
)
def test_hosts_that_cannot_work_together_are_refused(missing: dict[str, Any], why: str) -> None:
    with pytest.raises(helm.HelmError, match=why):
        render(SHARED | {"archive": {"existingClaim": "images"}} | missing)


def test_the_roles_of_the_chart_are_those_of_the_program() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = list(Role)
    assert schema["properties"]["hosts"]["items"]["properties"]["roles"]["items"]["enum"] == known
    listed = " ".join(f'"{role}"' for role in known)
    assert f"list {listed} }}}}" in (CHART / "templates" / "_helpers.tpl").read_text()
