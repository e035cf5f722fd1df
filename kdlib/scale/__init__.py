"""Past one machine: a data set enhanced on a cluster."""

from kdlib.scale.dataset import enhance_dataset

__all__ = ["enhance_dataset"]
