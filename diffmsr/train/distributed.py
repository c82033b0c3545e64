"""Several processes that share each step: each draws its own batches, and gradients and losses are averaged.

Any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT can start them, such as torchrun and accelerate. On a
CPU, two processes with one thread each are twice as fast as one process with two.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def join(device: str) -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) unless a launcher started them."""
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl")
        else:
            dist.init_process_group("gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, with one message for all."""
    if not dist.is_initialized():
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    means = torch.split(flat / dist.get_world_size(), [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def any_of(flag: bool, device: str) -> bool:
    """Whether the flag is set in any process. Their clocks differ, and a process that went on alone would wait for ever."""
    if not dist.is_initialized():
        return flag
    agreed = torch.tensor(int(flag), device=device)
    dist.all_reduce(agreed, dist.ReduceOp.MAX)
    return bool(agreed)
