from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hiresseg.deflate import compress_gzip
from hiresseg.sinks import FILL, ClassMeaning


@dataclass(frozen=True)
class NamedClass:
    name: str
    color: tuple[int, int, int]


class ArrayChunks:
    """A raster in memory that behaves like a finished run."""

    def __init__(self, pixels: np.ndarray, chunk_px: int = 16, padding: int = FILL) -> None:
        self.pixels, self.shape, self.chunk_px, self.padding = pixels, pixels.shape, chunk_px, padding
        self.reads: list[tuple[int, int]] = []

    def read_chunk_gzip(self, row: int, col: int) -> bytes | None:
        chunk = self.read_chunk(row, col)
        return None if chunk is None else compress_gzip(chunk)

    def read_chunk(self, row: int, col: int) -> np.ndarray | None:
        self.reads.append((row, col))
        size = self.chunk_px
        part = self.pixels[row * size : (row + 1) * size, col * size : (col + 1) * size]
        if (part == FILL).all():
            return None
        chunk = np.full((size, size), self.padding, np.uint8)
        chunk[: part.shape[0], : part.shape[1]] = part
        return chunk


@pytest.fixture(scope="session")
def array_chunks() -> type[ArrayChunks]:
    return ArrayChunks


@pytest.fixture(scope="session")
def named_class() -> type[NamedClass]:
    return NamedClass


@pytest.fixture(scope="session")
def land() -> ClassMeaning:
    return ClassMeaning(
        (
            NamedClass("background", (0, 0, 0)),
            NamedClass("building", (230, 60, 40)),
            NamedClass('roads & <tracks> "paved"', (240, 190, 40)),
            NamedClass("forêt", (40, 140, 70)),
        )
    )


@pytest.fixture(scope="session")
def patches() -> np.ndarray:
    """A mask of four classes with a hole, no whole number of tiles in either direction."""
    rows, cols = np.mgrid[:205, :307]
    mask = ((rows // 23 + cols // 31 + (rows * cols) // 997) % 4).astype(np.uint8)
    mask[64:150, 96:230] = FILL
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for the result, so that leftovers show."""
    result = tmp_path / "result"
    result.mkdir()
    return result
