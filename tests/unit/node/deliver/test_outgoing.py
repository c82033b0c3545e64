"""The data path of a send: the bytes that are kept, and peers that answer something else."""

import socket
import threading
from pathlib import Path
from typing import Any

import pydicom
import pytest

from node.config.settings import DestinationSettings
from node.deliver.scu import send
from node.dicom.part10 import data_set_of, names_of
from node.errors import PeerError
from tests.dicom import in_files

from .sending import Serve, Start


@pytest.mark.parametrize("max_pdu", [0, 250, 16384])
def test_the_bytes_that_are_kept_arrive_in_pdus_of_any_length(serve: Serve, files: list[Path], max_pdu: int) -> None:
    arrived = {}

    def answer(event: Any) -> int:
        arrived[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0

    assert all(sent.accepted for sent in send(in_files(files), serve(answer, max_pdu=max_pdu), "DIFFMSR"))
    for path in files:
        kept = data_set_of(path.read_bytes())
        assert kept is not None
        assert arrived[path.stem] == bytes(kept)


def test_a_file_without_group_length_is_encoded_again(storescp: Start, files: list[Path]) -> None:
    content = files[0].read_bytes()
    files[0].write_bytes(content[:132] + content[144:])  # without (0002,0000), which says where the data set begins
    assert names_of(files[0].read_bytes()) is None
    destination, folder = storescp()
    assert all(sent.accepted for sent in send(in_files(files), destination, "DIFFMSR"))
    received = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.iterdir())}
    assert received[files[0].stem] == pydicom.dcmread(files[0])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not DICOM"),
        (b"\x02\x00\x00\x00\x00\x04\x00\x01\x00\x00", "not DICOM"),
        (b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02", "rejected transient: local limit exceeded"),
        (b"\x03\x00\x00\x00\x00\x04\x00\x09\x09\x09", "for a reason that the standard does not have"),
        (b"", "closed at once"),
    ],
)
def test_a_peer_that_answers_something_else(files: list[Path], answer: bytes, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as strange:

        def converse() -> None:
            connection, _ = strange.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 16)

        threading.Thread(target=converse, daemon=True).start()
        port = strange.getsockname()[1]
        destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        with pytest.raises(PeerError, match=says):
            list(send(in_files(files), destination, "DIFFMSR"))
