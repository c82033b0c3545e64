"""What many associations leave behind in a receiver: python -m tests.bench.endurance --associations 10000

Of five associations two bring an instance and are released, one asks by C-ECHO, one is broken off within a message, and one is a probe of
a load balancer, which connects and says nothing. Memory, threads and descriptors are read of /proc after a tenth of them, when
everything is loaded, and in the end. Exit code 1 when memory grew by more than 50 MB, or threads or descriptors did.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.waiting import until


def main() -> int:
    from tests.hostile.conftest import Node
    from tests.hostile.wire import Wire, data_set, echo_command, store_command

    arguments = argparse.ArgumentParser(prog="python -m tests.bench.endurance", description=__doc__)
    arguments.add_argument("--associations", type=int, default=10_000)
    count = arguments.parse_args().associations

    def associate(node: Node, number: int) -> None:
        kind = number % 5
        wire = Wire(node.port)
        if kind == 4:
            wire.socket.close()
            return
        wire.associate()
        uid = f"1.2.3.9.{number}"
        if kind == 2:
            wire.message(3, echo_command())
            assert wire.receive() is not None
        elif kind == 3:
            wire.message(1, store_command(uid.encode()), None)
            wire.data(data_set(uid)[:100])
            wire.socket.close()
            return
        else:
            assert wire.store(uid, data_set(uid, study_uid=f"1.2.3.8.{number // 50}")).status == 0
        wire.release()

    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        node = Node(Path(folder) / "node", scp="max_associations = 50\nmax_associations_per_address = 50")
        began, before = time.monotonic(), (0, 0, 0)
        for number in range(count):
            associate(node, number)
            if number + 1 == count // 10:
                before = _figures(node)
        took = time.monotonic() - began
        try:
            until(
                lambda: _figures(node)[1:] <= before[1:],
                "what the last ones used is given back",
                lambda: _figures(node),
            )
        except AssertionError:
            print("threads or descriptors stay")
        after = _figures(node)
        code = node.stop()
    for what, first, last in zip(("MB of memory", "threads", "descriptors"), before, after, strict=True):
        print(f"{what}: {first} after {count // 10} associations, {last} after {count}")
    print(f"{count} associations in {took:.0f} s, exit code {code} after SIGTERM")
    return int(after[0] - before[0] > 50 or after[1] > before[1] or after[2] > before[2] or code != 0)


def _figures(node: "Node") -> tuple[int, int, int]:  # type: ignore[name-defined]  # noqa: F821
    return node.status("VmRSS") // 1024, node.status("Threads"), node.descriptors()


if __name__ == "__main__":
    sys.exit(main())
