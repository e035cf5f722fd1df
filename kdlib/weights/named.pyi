# Written by `python -m tests.stubs` from the records of the families.
# ruff: noqa
# fmt: off
from pathlib import Path
from typing import Any, Literal, overload

from kdlib.models.glance import GlanceNet
from kdlib.models.grid import GridNet
from kdlib.models.iat_student import IATStudent
from kdlib.models.msafn import LightMSAFN
from kdlib.models.msafn import MSAFN
from kdlib.models.network import Network
from kdlib.models.zero_dce import ZeroDCE
@overload
def load_model(name_or_path: Literal["zero-dce", "zero-dce++", "student-565", "nano-161", "zero-dce++-pairs", "student-565-pairs", "nano-161-pairs", "zero-dce++-free", "student-565-free"], **overrides: Any) -> ZeroDCE: ...
@overload
def load_model(name_or_path: Literal["glance-650", "glance-650-real"], **overrides: Any) -> GlanceNet: ...
@overload
def load_model(name_or_path: Literal["iat-student"], **overrides: Any) -> IATStudent: ...
@overload
def load_model(name_or_path: Literal["light-msafn"], **overrides: Any) -> LightMSAFN: ...
@overload
def load_model(name_or_path: Literal["msafn-32"], **overrides: Any) -> MSAFN: ...
@overload
def load_model(name_or_path: Literal["grid-960", "grid-teacher", "grid-960-research", "grid-teacher-research"], **overrides: Any) -> GridNet: ...
@overload
def load_model(name_or_path: str | Path, **overrides: Any) -> Network: ...
