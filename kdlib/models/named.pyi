# Written by `python -m tests.stubs` from the records of the families.
# ruff: noqa
# fmt: off
from typing import Any, Literal, overload

from kdlib.models.glance import GlanceNet
from kdlib.models.grid import GridNet
from kdlib.models.iat import IAT
from kdlib.models.iat_student import IATStudent
from kdlib.models.msafn import LightMSAFN
from kdlib.models.msafn import MSAFN
from kdlib.models.network import Network
from kdlib.models.zero_dce import ZeroDCE
@overload
def create_model(name: Literal["glance-650"], **overrides: Any) -> GlanceNet: ...
@overload
def create_model(name: Literal["grid-960", "grid-teacher"], **overrides: Any) -> GridNet: ...
@overload
def create_model(name: Literal["iat"], **overrides: Any) -> IAT: ...
@overload
def create_model(name: Literal["iat-student"], **overrides: Any) -> IATStudent: ...
@overload
def create_model(name: Literal["msafn"], **overrides: Any) -> MSAFN: ...
@overload
def create_model(name: Literal["light-msafn"], **overrides: Any) -> LightMSAFN: ...
@overload
def create_model(name: Literal["zero-dce", "zero-dce++", "student-565", "nano-161"], **overrides: Any) -> ZeroDCE: ...
@overload
def create_model(name: str, **overrides: Any) -> Network: ...
