"""The recipe that this competition's first solutions trained with, for a comparison of time: nothing is kept between
epochs or folds, and each prediction decodes the pictures anew.

Pillow and torchvision from JPEG, AdamW with a constant 1e-3, batches of 64, every photo in every epoch, patience 5 on
accuracy; focal loss for the mask and, weighed .1, .1, .8, for age, cross-entropy for gender; flip averaged at the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from loss import build_loss
from model import build_model, normalisation

BATCH, LR, PATIENCE = 64, 1e-3, 5


@dataclass(frozen=True)
class Criterion:
    """The loss of a task; `class_weights` None for equal ones."""

    name: str
    loss: str
    class_weights: tuple[float, ...] | None = None


CRITERIA = (
    Criterion("mask", "focal"),
    Criterion("gender", "cross_entropy"),
    Criterion("age", "focal", (0.1, 0.1, 0.8)),
)


@dataclass(frozen=True)
class Recipe:
    """What is the same for both sides of the comparison. `size` is (H, W)."""

    backbone: str
    pretrained: bool
    size: tuple[int, int]
    epochs: int
    num_classes: int
    device: torch.device
    workers: int


class Pictures(Dataset):
    """(image (3, H, W) float32, label), read from the file each time."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], transform: T.Compose) -> None:
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as picture:
            return self.transform(picture.convert("RGB")), self.labels[index]


class OriginalFold:
    """One fold of one task, trained and then asked for its predictions."""

    def __init__(self, recipe: Recipe, criterion: Criterion) -> None:
        self.recipe = recipe
        size = recipe.size
        built = build_model(recipe.backbone, recipe.num_classes, image_size=size, pretrained=recipe.pretrained)
        self.model = built.to(recipe.device)
        weights = None if criterion.class_weights is None else torch.tensor(criterion.class_weights)
        self.criterion = build_loss(criterion.loss, class_weights=weights).to(recipe.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR)
        self.transform = T.Compose([T.Resize(size), T.ToTensor(), T.Normalize(*normalisation(recipe.backbone))])

    def train(
        self, paths: Sequence[Path], labels: Sequence[int], *, held_out: tuple[Sequence[Path], Sequence[int]]
    ) -> None:
        """Epochs until the last, or until the accuracy has not risen for PATIENCE; the best weights stay."""
        best, waited, kept = -1.0, 0, self._weights()
        for _ in range(self.recipe.epochs):
            self._epoch(paths, labels)
            hits = torch.tensor(held_out[1]) == self.predict(held_out[0], flip=False).argmax(dim=1)
            accuracy, waited = hits.float().mean().item(), waited + 1
            if accuracy > best:
                best, waited, kept = accuracy, 0, self._weights()
            if waited >= PATIENCE:
                break
        self.model.load_state_dict(kept)

    @torch.inference_mode()
    def predict(self, paths: Sequence[Path], *, flip: bool = True) -> Tensor:
        """Logits (N, C), with those of the mirror image added if `flip`."""
        self.model.eval()
        rows = []
        for images, _ in self._batches(paths, [0] * len(paths), shuffle=False):
            logits = self.model(images)
            rows.append((logits + self.model(images.flip(-1)) if flip else logits).cpu())
        return torch.cat(rows)

    def _epoch(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self.model.train()
        for images, target in self._batches(paths, labels, shuffle=True):
            self.optimizer.zero_grad()
            self.criterion(self.model(images), target.to(self.recipe.device)).backward()
            self.optimizer.step()

    def _batches(
        self, paths: Sequence[Path], labels: Sequence[int], *, shuffle: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        pictures = Pictures(paths, labels, self.transform)
        lone = shuffle and len(pictures) % BATCH == 1
        loader = DataLoader(
            pictures, batch_size=BATCH, shuffle=shuffle, drop_last=lone, num_workers=self.recipe.workers
        )
        for images, target in loader:
            yield images.to(self.recipe.device), target

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
