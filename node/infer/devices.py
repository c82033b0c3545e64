"""python -m node.infer.devices        the devices of this machine for `[model] device = "all"`, one per line

A process of its own, because torch takes seconds to load and the service does not need it."""

import sys


def main() -> None:
    import torch

    names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    sys.stdout.write("".join(f"{name}\n" for name in names or ["cpu"]))


if __name__ == "__main__":
    main()
