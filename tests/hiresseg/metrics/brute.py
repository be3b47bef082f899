"""The definitions, pixel by pixel, over whole arrays: slow, sharing nothing with what is tested."""

from __future__ import annotations

import numpy as np


def ellipse(radius):
    """OpenCV's elliptical structuring element of 2 r + 1 pixels: rows as wide as the circle, rounded."""
    rows = np.arange(-radius, radius + 1)
    half = np.round(np.sqrt(radius * radius - rows * rows)).astype(int)
    return np.abs(rows)[None, :] <= half[:, None]


def gradient(labels, kernel):
    """Pixels whose neighbourhood (inside the image) holds two known classes."""
    reach = kernel.shape[0] // 2
    height, width = labels.shape
    band = np.zeros(labels.shape, bool)
    for row in range(height):
        for col in range(width):
            seen = {
                int(labels[row + down, col + right])
                for down in range(-reach, reach + 1)
                for right in range(-reach, reach + 1)
                if kernel[down + reach, right + reach]
                and 0 <= row + down < height
                and 0 <= col + right < width
            } - {-1}
            band[row, col] = len(seen) > 1 and labels[row, col] >= 0
    return band


def band_accuracy(truth, prediction, kernel):
    band = gradient(truth, kernel)
    return ((truth == prediction) & band).sum(), band.sum()


def erode(mask, times):
    """3 x 3 erosion `times` times of a mask with one pixel of nothing around it."""
    mask = np.pad(mask, 1)
    for _ in range(times):
        shifted = np.pad(mask, 1, constant_values=True)
        height, width = mask.shape
        mask = np.logical_and.reduce(
            [shifted[r : r + height, c : c + width] for r in range(3) for c in range(3)]
        )
    return mask[1:-1, 1:-1]


def boundary_iou(truth, prediction, distance):
    """Of two masks."""
    true, told = truth & ~erode(truth, distance), prediction & ~erode(prediction, distance)
    return (true & told).sum(), (true | told).sum()


def panoptic(truth, prediction, true_segments, told_segments, void):
    """(sum of IoU, matches, false, missed) by category, from masks."""
    known = truth != void if void is not None else np.ones(truth.shape, bool)
    result = {}
    matched = set()

    def row(category):
        return result.setdefault(category, [0.0, 0, 0, 0])

    trues = {i: s for i, s in true_segments.items() if (truth == i).any() and i != void}
    tolds = {i: s for i, s in told_segments.items() if (prediction == i).any()}
    for i, (category, crowd) in trues.items():
        if crowd:
            continue
        for j, (other, _) in tolds.items():
            a, b = truth == i, (prediction == j) & known
            iou = (a & b).sum() / (a | b).sum()
            if other == category and iou > 0.5:
                matched |= {("true", i), ("told", j)}
                row(category)[0] += iou
                row(category)[1] += 1
    for i, (category, crowd) in trues.items():
        if not crowd and ("true", i) not in matched:
            row(category)[3] += 1
    for j, (category, _) in tolds.items():
        if ("told", j) in matched:
            continue
        mask = prediction == j
        excuse = ~known
        for i, (other, crowd) in trues.items():
            if crowd and other == category:
                excuse |= truth == i
        if (mask & excuse).sum() / mask.sum() <= 0.5:
            row(category)[2] += 1
    return result
