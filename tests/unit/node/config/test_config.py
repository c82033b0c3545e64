from pathlib import Path

import pytest

from node.config import loading
from node.config.loading import load_settings
from node.config.settings import Settings
from node.errors import ConfigError, NotFoundError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "[scp]\nport = 104\nae_title = 'SITE'")
    monkeypatch.setenv("DIFFMSR_NODE_SCP__PORT", "11113")
    settings = load_settings(path)
    assert (settings.scp.port, settings.scp.ae_title) == (11113, "SITE")


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    settings = load_settings(written(tmp_path, "[node]\ndata_dir = 'data'\n[model]\npath = 'weights'"))
    assert settings.node.data_dir == tmp_path / "data"
    assert settings.model.path == tmp_path / "weights"
    assert settings.node.url == f"sqlite:///{tmp_path}/data/tracker.sqlite3"


def test_a_database_password_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("postgresql+psycopg://u:p@h/d\n")
    assert load_settings(written(tmp_path, "node.database_url_file = 'secret'")).node.url.endswith("u:p@h/d")
    both = written(tmp_path, "[node]\ndatabase_url_file = 'secret'\ndatabase_url = 'sqlite://'")
    with pytest.raises(ConfigError, match="not both"):
        load_settings(both)
    with pytest.raises(ConfigError, match="cannot read"):
        _ = load_settings(written(tmp_path, "node.database_url_file = 'none'")).node.url


def test_every_mistake_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "[scp]\nport = 'x'\nae_titel = 'A'\n[nonsense]\na = 1")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(str(path)) for line in lines)


def test_an_unknown_destination_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="none is configured"):
        Settings().destination("pacs")


def test_an_old_key_is_read_with_a_warning_that_names_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    path = written(tmp_path, "[match.pairing]\nplane_distance_mm = 2")
    assert load_settings(path, said.append).match.pairing.max_plane_distance_mm == 2
    assert said == [
        f"{path}: [match.pairing] plane_distance_mm is now called max_plane_distance_mm; "
        "the next release reads only max_plane_distance_mm"
    ]
    monkeypatch.setenv("DIFFMSR_NODE_MATCH__PAIRING__PLANE_DISTANCE_MM", "3")
    monkeypatch.setenv("DIFFMSR_NODE_MATCH__PAIRING__MAX_PLANE_DISTANCE_MM", "")
    monkeypatch.delenv("DIFFMSR_NODE_MATCH__PAIRING__MAX_PLANE_DISTANCE_MM")  # and again when the test ends
    said.clear()
    assert load_settings(path, said.append).match.pairing.max_plane_distance_mm == 3
    assert "DIFFMSR_NODE_MATCH__PAIRING__MAX_PLANE_DISTANCE_MM" in said[-1]


def test_old_keys_of_repeated_sections_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "RENAMED_KEYS", {("destinations", "address"): "host"})
    text = "[[destinations]]\nname = 'a'\nae_title = 'A'\naddress = 'h1'\n"
    settings = load_settings(written(tmp_path, text + text.replace("'a'", "'b'").replace("h1", "h2")), lambda _: None)
    assert [d.host for d in settings.destinations] == ["h1", "h2"]


def test_every_renamed_key_leads_to_a_key_that_is_there() -> None:
    for (*section, old), new in loading.RENAMED_KEYS.items():
        table = Settings().model_dump()
        for part in section:
            table = table[part]
        assert new in table and old not in table


@pytest.mark.parametrize(
    ("written_as", "devices"),
    [("auto", ("auto",)), ("all", ("all",)), ("cpu", ("cpu",)), ("cuda:0, cuda:1", ("cuda:0", "cuda:1"))],
)
def test_devices_of_the_model(tmp_path: Path, written_as: str, devices: tuple[str, ...]) -> None:
    settings = load_settings(written(tmp_path, f"[model]\ndevice = '{written_as}'"))
    assert settings.model.devices == devices


@pytest.mark.parametrize(
    ("written_as", "says"),
    [
        ("cuda:0,cuda:0", "named twice"),
        ("cuda,all", "stand alone"),
        ("GPU 1", "separated by commas"),
        ("", "a device is"),
    ],
)
def test_devices_that_cannot_be_meant(tmp_path: Path, written_as: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[model\] device: .*{says}"):
        load_settings(written(tmp_path, f"[model]\ndevice = '{written_as}'"))


TWICE = 2 * "[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[scp]\nae_titel = 'A'", "[scp] ae_titel: unknown key; did you mean ae_title?"),
        ("[match.pairing]\nmin_coverag = 1", "did you mean min_coverage?"),
        ("[destinations]\nname = 'a'\nae_title = 'A'\nhost = 'h'", "[destinations]: write [[destinations]], in double brackets"),
        ("[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\nport = 'eleven'", "port: must be a number, not 'eleven'"),
        ("[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = ''", "host: must not be empty"),
        ("[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\ncodes = ['W_COVERAG']", "did you mean W_COVERAGE?"),
        ("node.data_dir = 3", "[node] data_dir: must be a path in quotes, not 3"),
        ("[web]\nenabled = 'maybe'", "[web] enabled: must be true or false, not 'maybe'"),
        ("[match]\ntargets = 'T2'", "[match] targets: must be a list in square brackets, not 'T2'"),
        ("[output]\nsop_class = 'MR'", "sop_class: must be 'mr', 'sc' or 'legacy_enhanced', not 'MR'"),
        ("[scp]\nport = 70000", "[scp] port: must be less than or equal to 65535, not 70000"),
        ("[[destinations]]\nhost = 'h'", "[destinations] #1 name: is missing"),
        ("[model]\ndevice = 'gpu'", "a device is \"auto\", \"all\", \"cpu\""),
        (TWICE, "node.toml: [[destinations]] name a is used twice"),
    ],
)  # fmt: skip
def test_an_error_says_what_was_meant(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(written(tmp_path, text))
    assert says in str(caught.value)


def test_a_variable_of_an_unknown_section_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFMSR_NODE_SCPP__PORT", "104")
    with pytest.raises(ConfigError, match=r"no section \[scpp\]; did you mean DIFFMSR_NODE_SCP__"):
        load_settings(written(tmp_path, ""))


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://diffmsr:secret@db/diffmsr", "postgresql+psycopg://diffmsr@db/diffmsr?password=secret"]
)
def test_a_password_in_the_file_gives_a_warning(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets come from files of their own, or from the environment."""
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndatabase_url = "{url}"\n')
    said: list[str] = []
    assert load_settings(path, said.append).node.url == url
    assert len(said) == 1 and "database_url_file" in said[0] and "secret" not in said[0]
    path.write_text("")
    monkeypatch.setenv("DIFFMSR_NODE_NODE__DATABASE_URL", url)
    assert load_settings(path).node.url == url
