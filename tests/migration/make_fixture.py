"""Make the fixture of the migration tests: a data folder and tracker as a service of an earlier version left them.

    .venv/bin/python -m tests.migration.make_fixture tests/migration/data/main-2026-11

Run it in a checkout of the version that is to be kept. `main-2026-11` was made from the commit named in its JSON file,
the last one that held absolute paths in its rows. To make a fixture of another version, check that version out, and
give another name; an existing one is never made again, because it stands for what is installed somewhere.

Nothing is made up: the service runs as an administrator runs it, a scanner sends over DICOM on loopback, Orthanc is the
PACS. One study for each state a job can be in when the service is stopped; see `maker.py`. Only the half-written file
in `incoming/` is put there by hand.

It writes NAME.tar.xz (node.toml, data/, scanner/, explain/) and NAME.json, which says what the tracker has to show.
"""

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.migration.maker import ROOT, Maker
from tests.program import PROGRAM


def _manifest(maker: Maker) -> dict[str, Any]:
    jobs = [_job(maker, row["id"]) for row in maker.rows("SELECT id FROM job ORDER BY id")]
    instances = maker.rows(
        "SELECT sop_uid, series_uid, study_uid, sop_class_uid, transfer_syntax_uid, path, sha256, size, source, received_at "
        "FROM instance ORDER BY sop_uid"
    )
    for row in instances:
        row["file_sha256"] = _sha256(Path(row["path"]).read_bytes())
        row["path"] = str(Path(row["path"]).relative_to(maker.data))
    deliveries = maker.rows(
        "SELECT job_id, sop_uid, path, accepted, status, committed FROM delivery ORDER BY job_id, path"
    )
    for row in deliveries:
        row["file_sha256"] = _sha256(Path(row["path"]).read_bytes())
        row["path"] = str(Path(row["path"]).relative_to(maker.data))
        row |= {name: bool(row[name]) for name in ("accepted", "committed")}
    return {
        "commit": _git("rev-parse", "HEAD"),
        "version": maker.node("version").split()[1],
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_dir": str(maker.data),
        "host": os.uname().nodename,
        "ports": maker.ports,
        "studies": maker.studies.uids,
        "schema": maker.rows("SELECT version_num FROM alembic_version")[0]["version_num"],
        "totals": _totals(maker),
        "events": maker.rows("SELECT count(*) AS n FROM event")[0]["n"],
        "series": maker.rows("SELECT series_uid, study_uid, instances, expected FROM series ORDER BY series_uid"),
        "instances": instances,
        "jobs": jobs,
        "deliveries": deliveries,
        "commitments": maker.rows(
            "SELECT transaction_uid, job_id, answered_at IS NOT NULL AS answered FROM commitment ORDER BY asked_at"
        ),
        "results": {path.stem: _result(path) for path in sorted((maker.data / "results").iterdir())},
        "derived": {
            str(path.relative_to(maker.data)): _sha256(path.read_bytes())
            for path in sorted((maker.data / "derived").rglob("*"))
            if path.is_file()
        },
        "asked_commitment": maker.asked,
        "half_written": [path.name for path in (maker.data / "incoming").iterdir()],
    }


def _job(maker: Maker, job_id: int) -> dict[str, Any]:
    """A job as the command line shows it, with what only its row says; without what it was asked, and its verdict,
    whose shape is the version's own."""
    facts: dict[str, Any] = json.loads(maker.node("queue", "show", str(job_id), "--json"))["job"]
    (row,) = maker.rows("SELECT revision, fence FROM job WHERE id = ?", job_id)
    facts["destination"] = facts["payload"].get("destination")
    return {k: v for k, v in facts.items() if k not in ("payload", "result")} | row


def _totals(maker: Maker) -> dict[str, int]:
    command = [PROGRAM, "status", "--json", "--config", maker.config]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    totals: dict[str, int] = said["received"]
    return totals


def _explanations(maker: Maker) -> dict[str, str]:
    matched = maker.rows("SELECT study_uid FROM job WHERE kind = 'match' AND result IS NOT NULL")
    return {row["study_uid"]: maker.node("explain", row["study_uid"], "--json") for row in matched}


def _result(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        pixels, facts = file["pixels"], json.loads(str(file["facts"]))
    return {
        "path": f"results/{path.name}",
        "sha256": _sha256(path.read_bytes()),
        "pixels_sha256": _sha256(np.ascontiguousarray(pixels, "<f4").tobytes()),
        "shape": list(pixels.shape),
        "source_uids": facts["source_uids"],
        "weights_sha256": facts["weights_sha256"],
        "usable": facts["quality"]["usable"],
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _pack(archive: Path, maker: Maker, explanations: dict[str, str]) -> None:
    for name in ("scanner", "explain"):
        (ROOT / name).mkdir()
    for path in sorted((maker.scanner_files / "waiting").rglob("*.dcm")):  # the T1 that has not come yet, too
        kept = ROOT / "scanner" / path.relative_to(maker.scanner_files)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    for study_uid, text in explanations.items():
        (ROOT / "explain" / f"{study_uid}.json").write_text(text)
    # Most of it is float32: literals in the context of their place among four bytes are 3 % smaller.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 2, "lp": 2, "pb": 2}]
    with lzma.open(archive, "w", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(ROOT, arcname=".")


def main() -> None:
    name = Path(sys.argv[1])
    archive, manifest = name.with_name(f"{name.name}.tar.xz"), name.with_name(f"{name.name}.json")
    for path in (archive, manifest, ROOT):
        if path.exists():
            sys.exit(f"{path} is there already")
    ROOT.mkdir()
    maker = Maker()
    maker.make()
    manifest.write_text(json.dumps(_manifest(maker), indent=1) + "\n")
    _pack(archive, maker, _explanations(maker))
    for folder in (ROOT, maker.scanner_files, Path(f"{ROOT}-pacs")):
        shutil.rmtree(folder)
    Path(f"{ROOT}.log").unlink()


if __name__ == "__main__":
    main()
