"""A residual network for images of any size: as many stages as it takes to come down to about 4 x 4."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.training.dataset import Dataset
from workers.training.recipes.classification import classifier_signature, loss, measure, metrics

__all__ = ["arguments", "batch", "build", "loss", "measure", "metrics", "prepare", "signature"]

FIRST_WIDTH = 32
LARGE_SIDE = 64
SHIFT_SHARE = 1 / 8


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; halves the sides with a stride of 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, image: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.convolution1(image)))
        return functional.relu(self.norm2(self.convolution2(inner)) + self.shortcut(image))


class ResidualNetwork(nn.Module):
    """Float images [N, channels, height, width] to logits [N, classes]."""

    def __init__(self, channels: int, classes: int, widths: list[int], stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, stem_stride, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        pairs = zip([widths[0], *widths], widths, strict=False)
        self.stages = nn.Sequential(*(Block(a, b, 1 if index == 0 else 2) for index, (a, b) in enumerate(pairs)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(image)).mean((2, 3)))


def arguments(dataset: Dataset) -> dict[str, Any]:
    channels, height, width = dataset.item_shape
    side = min(height, width)
    stem_stride = 2 if side >= LARGE_SIDE else 1
    stages = min(4, max(1, round(math.log2(max(side, 4) / stem_stride / 4)) + 1))
    return {
        "channels": channels,
        "classes": len(dataset.classes),
        "widths": [FIRST_WIDTH * 2**stage for stage in range(stages)],
        "stem_stride": stem_stride,
    }


def build(arguments: dict[str, Any]) -> nn.Module:
    return ResidualNetwork(**arguments)


def prepare(module: nn.Module, dataset: Dataset) -> None:
    """Nothing: the batch norms learn what they need."""


def batch(dataset: Dataset, indexes: Tensor, augment: bool) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(dataset.features[indexes.numpy()])
    if augment:
        images = shifted(images, max(1, int(min(images.shape[2:]) * SHIFT_SHARE)))
    return images.float() * dataset.scale, torch.from_numpy(dataset.labels[indexes.numpy()])


def shifted(images: Tensor, most: int) -> Tensor:
    """Each image [N, C, H, W] moved by up to `most` pixels in each direction, zeros moving in."""
    count, channels, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most))
    rows = torch.randint(0, 2 * most + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(0, 2 * most + 1, (count, 1)) + torch.arange(width)
    items = torch.arange(count)[:, None, None, None]
    return padded[items, torch.arange(channels)[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def signature(dataset: Dataset) -> dict[str, Any]:
    return classifier_signature("image_classification", "image", dataset)
