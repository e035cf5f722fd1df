"""Loss functions for training and distillation, each a small module with its formula and source in the docstring.

A loss sees tensors only: nothing here may import an architecture, a data set or a training loop.
"""

from kdlib.losses.classification import (
    attention_transfer_loss,
    hint_loss,
    kl_divergence,
    logit_loss,
    relation_loss,
    soft_target_loss,
    soften,
)
from kdlib.losses.distillation import (
    ContrastiveLoss,
    FeatureMatchingLoss,
    LayerFeatures,
    OutputAlignmentLoss,
    SSIMLoss,
    mean_activation_map,
    mean_activation_maps,
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
    "BackboneUnavailableError", "ColourConstancyLoss", "ContrastiveLoss", "ExposureControlLoss",
    "FeatureMatchingLoss", "GlobalExposureLoss", "IlluminationSmoothnessLoss", "LayerFeatures",
    "MultiRegionExposureLoss", "OutputAlignmentLoss", "PerceptualLoss", "SSIMLoss", "SaturationLoss",
    "SpatialConsistencyLoss", "ZeroReferenceLoss", "attention_transfer_loss", "hint_loss", "kl_divergence",
    "logit_loss", "mean_activation_map", "mean_activation_maps", "relation_loss", "soft_target_loss", "soften",
]  # fmt: skip
