"""The Helm chart, rendered by Helm: what it makes is valid for Kubernetes, and its configuration for the program."""

from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from node.config.loading import load_settings
from node.config.settings import Settings
from tests.unit.deploy import DEPLOY

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
