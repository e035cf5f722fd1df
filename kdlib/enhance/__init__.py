"""The practitioner's wing: photos, videos and folders in, the same kinds out, brighter or larger, fast.

Nothing here trains or scores a network, and nothing imports PyTorch before a network needs it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
