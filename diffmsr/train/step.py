"""One optimisation step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffmsr.models import Batch, Losses, Objective
from diffmsr.train import distributed
from diffmsr.train.checkpoint import Run
from diffmsr.train.config import Config, TrainingError, learning_rate

Update = Callable[[Run, Config, Sequence[Batch], Objective, Tensor], tuple[Losses, Tensor]]
"""`update`, or another way to do the same."""


def update(
    run: Run, config: Config, batches: Sequence[Batch], objective: Objective, share: Tensor
) -> tuple[Losses, Tensor]:
    """Move the weights by this process's batches, and their average by a `share` () of the way to them. Gives the mean losses
    and the norm () of the gradient; when that is not finite, nothing has moved.

    Nothing here reads a value back from the device, so that a GPU can replay it.
    """
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    run.optimizer.zero_grad()
    parts = []
    device = torch.device(config.device).type
    for batch in batches:
        with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bfloat16"):
            losses = run.model.loss(batch, run.stage, objective)
        (torch.stack(list(losses.values())).sum() / len(batches)).backward()  # type: ignore[no-untyped-call]
        parts.append({name: loss.detach() for name, loss in losses.items()})
    distributed.average(parameter.grad for parameter in parameters if parameter.grad is not None)
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    finite = torch.isfinite(norm)
    run.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # Adam then leaves all as it is
    run.optimizer.step()
    with torch.no_grad():
        live: list[Tensor] = list(run.model.parameters())
        average: list[Tensor] = list(run.average.parameters())
        way = list(torch._foreach_sub(live, average))
        torch._foreach_mul_(way, share * finite)
        torch._foreach_add_(average, way)
        for one, other in zip(run.average.buffers(), run.model.buffers(), strict=True):
            one.copy_(other)  # running statistics are averages already
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}, norm


def step(run: Run, config: Config, batches: Sequence[Batch], take: Update = update) -> Losses:
    """Take one optimisation step over this process's batches, advance the run, and return the mean losses.

    Raises TrainingError, before any weight moves, when a loss or a gradient is not finite.
    """
    processes = distributed.join(config.device)[1]
    _, stage, done = config.stage_at(run.slices)
    for group in run.optimizer.param_groups:
        group["lr"].fill_(learning_rate(config, run.slices))
    together = processes * config.accumulate
    after = run.slices + together * stage.batch
    taken = done / (together * stage.batch) + 1
    decay = min(config.ema, (1 + taken) / (10 + taken))
    share = torch.full((), 1 - decay, device=config.device)
    losses, norm = take(run, config, batches, config.objective_at(run.slices), share)
    if not torch.isfinite(norm):
        finite = all(bool(image.isfinite().all()) for batch in batches for image in batch.images)
        what = "the loss" if finite else "the data"
        raise TrainingError(
            f"{what} of slices {run.slices} to {after - 1} of the run is not finite; the step was not taken, and the last "
            f"checkpoint stays as it is"
        )
    run.slices = after
    return losses
