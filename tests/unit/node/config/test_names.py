"""Names, hosts and addresses that would be misread, or shown where they do harm, are said when the configuration is read."""

import json
from pathlib import Path

import pytest

from node.config.loading import load_settings
from node.errors import ConfigError

DESTINATION = '[[destinations]]\nname = "p"\n'
HOSTS = {
    "host": DESTINATION + 'ae_title = "A"\nhost = {}\n',
    "listening": "[scp]\nhost = {}\n",
    "page": "[web]\nhost = {}\n",
    "collector": "[audit]\nhost = {}\n",
}
ADDRESSES = {
    "STOW-RS": DESTINATION + "url = {}\n",
    "object store": '[storage]\narchive = "s3://b/x"\nendpoint_url = {}\n',
    "traces": "[tracing]\nendpoint = {}\n",
}
NAMES = {
    "destination": '[[destinations]]\nname = {}\nae_title = "A"\nhost = "h"\n',
    "source": '[[sources]]\nname = {}\nae_title = "A"\n',
    "rule": '[[match.rules]]\nname = {}\ncontrast = "T2"\n',
}


def refusal(folder: Path, text: str, value: str) -> str:
    path = folder / "node.toml"
    path.write_text(text.format(json.dumps(value)))
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    said = str(raised.value)
    assert said.replace("\n", "").isprintable() and "S3cr3t" not in said
    return said


@pytest.mark.parametrize("where", HOSTS)
@pytest.mark.parametrize("host", ["http://h", "h:104", "h/x", "[::1]", "u@h", "a b", "\x1b[31mh", "h\n", "-h"])
def test_a_host_that_is_none(tmp_path: Path, where: str, host: str) -> None:
    assert "must be a host name or an address, without port and path" in refusal(tmp_path, HOSTS[where], host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "PACS_1", "pacs.example", "räksmörgås.example"])
def test_a_host(tmp_path: Path, host: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(HOSTS["host"].format(json.dumps(host)))
    assert load_settings(path).destinations[0].host == host


@pytest.mark.parametrize("where", ADDRESSES)
@pytest.mark.parametrize(
    ("address", "says"),
    [
        *(
            (one, "must be an address such as")
            for one in ("https://h:99999/x", "https://[::1/x", "https://", "ftp://h")
        ),
        *((one, "must be an address such as") for one in ("https://h:port/", "https://h/\x1b[31m", "https://h x")),
        ("https://u:S3cr3t@h/x", "must not hold a user or a password"),
        ("https://h/x?token=S3cr3t", "must not hold parameters"),
        ("https://h/x#S3cr3t", "must not hold parameters"),
    ],
)
def test_an_address_that_is_none(tmp_path: Path, where: str, address: str, says: str) -> None:
    assert says in refusal(tmp_path, ADDRESSES[where], address)


@pytest.mark.parametrize("where", NAMES)
@pytest.mark.parametrize("name", ["\x1b[31mx", "x\ny", "\x07", " x", "\u202ex"])
def test_a_name_that_a_terminal_would_obey(tmp_path: Path, where: str, name: str) -> None:
    assert "must be printable characters" in refusal(tmp_path, NAMES[where], name)


def test_a_name_that_no_key_has_room_for(tmp_path: Path) -> None:
    assert "at most 64 characters" in refusal(tmp_path, NAMES["destination"], "x" * 65)


@pytest.mark.parametrize("prefix", ["\x1b[31m", "a\nb", "a\\b"])
def test_a_prefix_that_no_description_may_have(tmp_path: Path, prefix: str) -> None:
    assert "VR LO" in refusal(tmp_path, "[output]\nseries_description_prefix = {}\n", prefix)


def test_a_key_that_is_nearly_right(tmp_path: Path) -> None:
    assert "[scp] aet: unknown key; did you mean ae_title?" in refusal(tmp_path, "[scp]\naet = {}\n", "X")
