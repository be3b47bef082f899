"""The smallest network there is: each pixel by itself."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class PointwiseNet(nn.Module):
    """One linear layer over the bands of each pixel: a band ratio, a spectral index, a linear discriminant.

    It sees no neighbour, so tiles of it fit together without a seam whatever their overlap, and it costs next
    to nothing: what a run takes with it is what everything but the network takes.

    Args:
        bands: bands of the image.
        classes: logits that it gives.
    """

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(bands, classes, 1)

    def forward(
        self, images: Float[Tensor, "N C t t"], prior: Float[Tensor, "N K t t"] | None = None
    ) -> Float[Tensor, "N L t t"]:
        """Logits of each tile; the prior is not looked at."""
        del prior
        logits: Tensor = self.linear(images)
        return logits
