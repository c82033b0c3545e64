"""Training in two stages. Progress is one integer, the slices seen; sampling, seeds and resuming all derive from it.

`config` describes a run, `sampling` draws what it sees, `loop` trains, `step` is one step of it and `replay` the same as a
CUDA graph, `validation` measures on the way, `checkpoint` keeps its state, `progress` reports, `export` writes the weights;
`distributed` lets several processes share each step.
"""

from diffmsr.train.checkpoint import CHECKPOINT, Run, resume, save, start
from diffmsr.train.config import Config, Stage, TrainingError, read_config
from diffmsr.train.export import export_weights, read_run, write_folder
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
    "write_folder",
]
