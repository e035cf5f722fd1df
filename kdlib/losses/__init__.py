"""The losses, each a small module that returns a scalar."""

from kdlib.losses.distillation import (
    ContrastiveLoss,
    FeatureMatchingLoss,
    LayerFeatures,
    OutputAlignmentLoss,
    SSIMLoss,
    attention_map,
    attention_maps,
)
from kdlib.losses.perceptual import BackboneUnavailableError, PerceptualLoss
from kdlib.losses.zero_reference import (
    ColourConstancyLoss,
    ExposureControlLoss,
    GlobalExposureLoss,
    IlluminationSmoothnessLoss,
    MultiRegionExposureLoss,
    SaturationLoss,
    SpatialConsistencyLoss,
    ZeroReferenceLoss,
)

__all__ = [
    "BackboneUnavailableError",
    "ColourConstancyLoss",
    "ContrastiveLoss",
    "ExposureControlLoss",
    "FeatureMatchingLoss",
    "GlobalExposureLoss",
    "IlluminationSmoothnessLoss",
    "LayerFeatures",
    "MultiRegionExposureLoss",
    "OutputAlignmentLoss",
    "PerceptualLoss",
    "SSIMLoss",
    "SaturationLoss",
    "SpatialConsistencyLoss",
    "ZeroReferenceLoss",
    "attention_map",
    "attention_maps",
]
