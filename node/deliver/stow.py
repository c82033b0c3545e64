"""STOW-RS (PS3.18 10.5): store derived instances at a DICOMweb server, and say in words what became of each.

Each instance is a request of its own, so that each has its answer, and none holds up another. An instance is accepted when
the answer references it (ReferencedSOPSequence). HTTP 200 alone says nothing.
"""

from collections.abc import Iterator, Sequence

import requests
from dicomweb_client.session_utils import add_certs_to_session, create_session
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset

from node.config.settings import DestinationSettings
from node.deliver.scu import SendResult
from node.dicom.read import Readable
from node.dimse.status import C_STORE, Verdict, meaning, words
from node.errors import ConfigError, PeerError


def stow(instances: Sequence[Readable], destination: DestinationSettings) -> Iterator[SendResult]:
    """Store instances, yielding what became of each as soon as it is known. All are read before the first is sent. Raises
    PeerError when the server cannot be reached, or refuses us; and what reading an instance raises."""
    headers = [instance.read_header() for instance in instances]
    client = _client(destination)
    for instance, header in zip(instances, headers, strict=True):
        try:
            answer = client.store_instances([instance.read_instance()])
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code != requests.codes.conflict:
                raise _error(destination, error) from None
            answer = _content(error.response)  # 409: nothing was stored, and the answer says why
        except requests.RequestException as error:
            raise _error(destination, error) from None
        yield _result(instance, header, answer)


def verify(destination: DestinationSettings) -> None:
    """Ask the server for one study (QIDO-RS), as a C-ECHO would ask. A server that stores only may know no search: an
    answer is an answer. Raises PeerError when there is none, or when it refuses us."""
    try:
        _client(destination).search_for_studies(limit=1)
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code in (401, 403) or error.response.status_code >= 500:
            raise _error(destination, error) from None
    except requests.RequestException as error:
        raise _error(destination, error) from None


def _client(destination: DestinationSettings) -> DICOMwebClient:
    assert destination.url is not None
    session = create_session()
    if destination.user is not None:
        session.auth = destination.user, _password(destination)
    if destination.tls is not None:
        add_certs_to_session(session, None, None)
        session.cert = str(destination.tls.cert_file), str(destination.tls.key_file)
        if destination.tls.ca_file is not None:
            session.verify = str(destination.tls.ca_file)
    client = DICOMwebClient(destination.url, session, timeout=destination.timeout_s)
    client.set_http_retry_params(False)  # the queue tries again, and says so
    return client


def _password(destination: DestinationSettings) -> str:
    if destination.password_file is None:
        return ""
    try:
        return destination.password_file.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"destination {destination.name}: password_file: cannot read {error.filename}: {error.strerror}"
        ) from None


def _result(instance: Readable, header: Dataset, answer: Dataset) -> SendResult:
    named = instance, str(header.SOPClassUID), str(header.SOPInstanceUID)
    if any(item.get("ReferencedSOPInstanceUID") == named[2] for item in answer.get("ReferencedSOPSequence", [])):
        return SendResult(*named, 0x0000, words(C_STORE, 0x0000), Verdict.ACCEPTED)
    for item in answer.get("FailedSOPSequence", []):
        reason = item.get("FailureReason")
        if item.get("ReferencedSOPInstanceUID") == named[2] and reason is not None:
            verdict = meaning(C_STORE, reason).verdict
            return SendResult(
                *named, reason, words(C_STORE, reason), Verdict.REFUSED if verdict is Verdict.ACCEPTED else verdict
            )
    return SendResult(*named, None, "the answer of the server does not name the instance", Verdict.REFUSED)


def _content(response: requests.Response) -> Dataset:
    """The data set in an answer; an empty one when there is none that can be read."""
    try:
        return Dataset.from_json(response.json())
    except (ValueError, TypeError, KeyError):
        return Dataset()


def _error(destination: DestinationSettings, error: requests.RequestException) -> PeerError:
    """One line: the server, what happened, what to check. The text of the library holds the whole address, and may hold
    more."""
    response = error.response
    if response is not None:
        what, check = (
            f"HTTP {response.status_code} {response.reason}",
            "check url, user and password, and the server's log",
        )
    elif isinstance(error, requests.exceptions.SSLError):
        what, check = (
            "the TLS handshake failed",
            "check the certificates of both sides, and that the server expects TLS",
        )
    elif isinstance(error, requests.Timeout):
        what, check = f"no answer within {destination.timeout_s:g} s", "check the server's log, and timeout_s"
    else:
        what, check = "cannot connect", "check url, that the server is running, and the firewalls in between"
    return PeerError(f"destination {destination.name} ({destination.url}): {what}; {check}")
