"""Training in two stages. Progress is one integer, the slices seen; sampling, seeds and resuming all derive from it.

`config` is what a run is to be, `sampling` what it sees, `loop` what it does, `checkpoint` what it keeps, `progress` what
it tells, `export` what becomes of it; `team` is for runs of several processes.
"""

from diffmsr.train.checkpoint import CHECKPOINT, Run, resume, save, start
from diffmsr.train.config import Config, Stage, TrainingError, read_config
from diffmsr.train.export import export_weights, read_run
from diffmsr.train.loop import train
from diffmsr.train.progress import LOG

__all__ = [
    "CHECKPOINT",
    "LOG",
    "Config",
    "Run",
    "Stage",
    "TrainingError",
    "export_weights",
    "read_config",
    "read_run",
    "resume",
    "save",
    "start",
    "train",
]
