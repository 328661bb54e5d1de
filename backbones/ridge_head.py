"""A head solved in closed form beside the one that learns by steps, and the blend of both.

Ridge regression predicts a code for each output: a column of an identity matrix for a class, the number of years for
an age. The error of people left out gives its variance, and the outputs' Gaussian log-densities are its logits. Two
heads that err in different ways are better together, and their probabilities truer (docs/ablations.md).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RidgeHead(nn.Module):
    """Features (N, F) to logits (N, K), linear: zero until `training.ridge` has solved it.

    With z = features - mean and D numbers in a code, u = weight z (D) is the predicted code's distance from the mean
    code, divided by its variance; logits are codes u - cost, codes (K, D) being distances from the mean code as well.
    """

    def __init__(self, num_features: int, num_classes: int, code_size: int) -> None:
        super().__init__()
        for name, shape in {
            "mean": (num_features,),
            "weight": (code_size, num_features),
            "codes": (num_classes, code_size),
            "cost": (num_classes,),
        }.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(F.linear(features - self.mean, self.weight).float(), self.codes) - self.cost


class BlendedHead(nn.Module):
    """The learned head alone while it learns; in prediction the weighted mean of both heads' log-probabilities.

    `share` is the weight of the ridge head, 0 to 1.
    """

    def __init__(self, learned: nn.Module, ridge: RidgeHead, share: float) -> None:
        super().__init__()
        self.learned, self.ridge, self.share = learned, ridge, share

    def forward(self, features: Tensor) -> Tensor:
        outputs = self.learned(features)
        if self.training:
            return outputs
        return torch.lerp(outputs.float().log_softmax(dim=1), self.ridge(features).log_softmax(dim=1), self.share)
