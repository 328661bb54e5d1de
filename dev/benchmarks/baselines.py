"""Baselines to compare with: a loader that reads photos anew in every epoch, and the original competition recipe.

The recipe: Pillow and torchvision from JPEG, AdamW with a constant 1e-3, batches of 64, every photo in every epoch,
patience 5 on accuracy; focal loss for the mask and, weighted .1, .1, .8, for age, cross-entropy for gender.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from loss import build_loss
from model import build_model, normalisation

Photos = tuple[list[Path], list[int]]
"""Files and their labels."""
PixelBox = tuple[int, int, int, int]
BATCH, LR, PATIENCE = 64, 1e-3, 5
LOSSES: dict[str, tuple[str, tuple[float, ...] | None]] = {
    "mask": ("focal", None),
    "gender": ("cross_entropy", None),
    "age": ("focal", (0.1, 0.1, 0.8)),
}
"""Loss and class weights of each task."""


class PhotoFiles(Dataset):
    """(image (3, H, W) float32 normalised, label), read with Pillow and torchvision from the file each time.

    `size` is (H, W); `box` the part of the photo to read, x1, y1, x2, y2 in pixels.
    """

    def __init__(
        self,
        photos: Photos,
        size: tuple[int, int],
        backbone: str,
        *,
        flip: bool = False,
        box: PixelBox | None = None,
    ) -> None:
        (self.paths, self.labels), self.box = photos, box
        flips = [T.RandomHorizontalFlip()] if flip else []
        self.transform = T.Compose([T.Resize(size), *flips, T.ToTensor(), T.Normalize(*normalisation(backbone))])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as photo:
            return self.transform(photo.convert("RGB").crop(self.box)), self.labels[index]


@dataclass(frozen=True)
class OriginalRecipe:
    """The original recipe with the network and input size (H, W) of the other side of the comparison.

    `box` is the part of each crop that it sees, x1, y1, x2, y2 in pixels.
    """

    backbone: str
    pretrained: bool
    size: tuple[int, int]
    epochs: int
    device: torch.device
    workers: int
    box: PixelBox | None = None

    def train(self, task: str, num_classes: int, train: Photos, out_of_fold: Photos) -> nn.Module:
        """Train until the last epoch, or until the accuracy has not risen for PATIENCE; the best weights are kept."""
        options = {"image_size": self.size, "pretrained": self.pretrained}
        model = build_model(self.backbone, num_classes, **options).to(self.device)
        loss, weights = LOSSES[task]
        criterion = build_loss(loss, class_weights=None if weights is None else torch.tensor(weights)).to(self.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
        best, waited, kept = -1.0, 0, _copy(model)
        for _ in range(self.epochs):
            model.train()
            for images, labels in self._batches(*train, shuffle=True):
                optimizer.zero_grad()
                criterion(model(images), labels).backward()
                optimizer.step()
            hits = self.predict(model, out_of_fold[0], flip=False).argmax(dim=1) == torch.tensor(out_of_fold[1])
            accuracy, waited = hits.float().mean().item(), waited + 1
            if accuracy > best:
                best, waited, kept = accuracy, 0, _copy(model)
            if waited >= PATIENCE:
                break
        model.load_state_dict(kept)
        return model

    @torch.inference_mode()
    def predict(self, model: nn.Module, paths: Sequence[Path], *, flip: bool = True) -> Tensor:
        """Logits (N, C), with those of the mirror image added if `flip`."""
        model.eval()
        rows = []
        for images, _ in self._batches(paths, [0] * len(paths), shuffle=False):
            logits = model(images)
            rows.append((logits + model(images.flip(-1)) if flip else logits).cpu())
        return torch.cat(rows)

    def _batches(
        self, paths: Sequence[Path], labels: Sequence[int], *, shuffle: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        photos = PhotoFiles((paths, labels), self.size, self.backbone, box=self.box)
        # A batch of one photo has no batch statistics.
        single = shuffle and len(photos) % BATCH == 1
        for images, target in DataLoader(photos, BATCH, shuffle, drop_last=single, num_workers=self.workers):
            yield images.to(self.device), target.to(self.device)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
