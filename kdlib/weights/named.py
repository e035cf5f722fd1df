"""``load_model`` with the class behind every name, which editors read in the stub beside this module.

``python -m tests.stubs`` writes the stub from the records of the families.
"""

from kdlib.weights.models import load_model

__all__ = ["load_model"]
