"""The networks, one module for each family, their records, and the registry that looks the records up.

Models know neither losses nor data, and nothing here trains them; names and records are found without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
