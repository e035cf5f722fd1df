"""One notebook run with many parameters: a grid or a search, by several processes or machines at once."""

from kdlib.sweep.runner import run_sweep
from kdlib.sweep.settings import Range, Sweep, read_sweep

__all__ = ["Range", "Sweep", "read_sweep", "run_sweep"]
