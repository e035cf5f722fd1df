from .family import Family
from .glance import GlanceNet
from .grid import GridNet
from .iat import IAT, Stages
from .iat_student import IATStudent
from .msafn import MSAFN, LightMSAFN
from .named import create_model
from .network import Network
from .registry import (
    ARCHITECTURES,
    FAMILIES,
    build_model,
    count_parameters,
    family_of,
    infer_architecture,
    register,
    to_published,
)
from .zero_dce import ZeroDCE, apply_curve

__all__ = [
    "ARCHITECTURES", "FAMILIES", "IAT", "MSAFN", "Family", "GlanceNet", "GridNet", "IATStudent", "LightMSAFN",
    "Network", "Stages", "ZeroDCE", "apply_curve", "build_model", "count_parameters", "create_model", "family_of",
    "infer_architecture", "register", "to_published",
]  # fmt: skip
