"""``create_model`` with the class behind every name, which editors read in the stub beside this module.

``python -m tests.stubs`` writes the stub from the records of the families.
"""

from kdlib.models.registry import create_model

__all__ = ["create_model"]
