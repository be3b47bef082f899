"""Model folders with seeded weights, to be measured and not to be believed.

Run: `python benchmarks/toy_models.py conv|unet FOLDER`.
"""

import argparse
import json
from pathlib import Path

import torch

from hiresseg.models import ClassInfo, ModelSpec, NetworkConfig, StageSpec, save_model
from hiresseg.models.pointwise import PointwiseNet

NUM_CLASSES = 5
TILE_PX, OVERLAP_PX, TRIM_PX = 512, 64, 16
NAMES = ("conv", "unet")


def make_model(name: str, folder: Path) -> None:
    """Write `conv`, a 1x1 convolution of 3 bands to 5 classes, or `unet`, a small U-Net of smp."""
    torch.manual_seed(0)
    if name == "conv":
        network: torch.nn.Module = PointwiseNet(3, NUM_CLASSES)
        config = NetworkConfig("hiresseg", "PointwiseNet", {"bands": 3, "classes": NUM_CLASSES})
    else:
        import segmentation_models_pytorch as smp

        arguments = {"encoder_name": "timm-mobilenetv3_small_100", "classes": NUM_CLASSES, "in_channels": 3}
        network = smp.Unet(**arguments, encoder_weights=None)
        config = NetworkConfig("smp", "Unet", arguments)
    spec = ModelSpec(
        name=name,
        bands=("red", "green", "blue"),
        classes=tuple(ClassInfo(f"class {k}", (50 * k, 250 - 50 * k, 90)) for k in range(NUM_CLASSES)),
        activation="softmax",
        mean=(118.0, 118.0, 118.0),
        std=(45.0, 45.0, 45.0),
        stages=(StageSpec(0, TILE_PX, OVERLAP_PX, TRIM_PX),),
        description="untrained",
    )
    save_model(folder, spec, [network.eval()], [config])


def main() -> None:
    """Write one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    make_model(arguments.name, arguments.folder)
    print(json.dumps({"folder": str(arguments.folder)}))


if __name__ == "__main__":
    main()
