"""One destination, whichever way it takes instances: DICOM's own protocol, or STOW-RS."""

from collections.abc import Iterator, Sequence

from node.config.settings import DestinationSettings
from node.deliver import scu
from node.deliver.scu import SendResult
from node.dicom.read import Readable


def send(instances: Sequence[Readable], destination: DestinationSettings, ae_title: str) -> Iterator[SendResult]:
    """Send instances, yielding what became of each as soon as it is known. PeerError when nothing can be sent."""
    if destination.url is not None:
        from node.deliver import stow  # here, because few sites need its packages

        return stow.stow(instances, destination)
    return scu.send(instances, destination, ae_title)


def verify(destination: DestinationSettings, ae_title: str) -> None:
    """Whether the destination answers: C-ECHO, or a search at a DICOMweb server. PeerError when it does not."""
    if destination.url is not None:
        from node.deliver import stow

        stow.verify(destination)
    else:
        scu.echo(destination, ae_title)
