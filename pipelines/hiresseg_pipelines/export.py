"""From the run's arrays to the files that people open."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning

from hiresseg.sinks import ClassMeaning, Meaning, ScaledMeaning, write_cog, write_preview
from hiresseg.stages import Source
from hiresseg.store import RunArray, RunStore
from hiresseg.thumbnail import Thumbnail
from hiresseg_pipelines.stopping import check_stop


def export_run(store: RunStore, source: Source, should_stop: threading.Event) -> dict[str, Any]:
    """Write `labels.tif`, `confidence.tif` if the run kept it, and `preview.png`; facts about them by name.

    Raises:
        Interrupted: if `should_stop` is set; a file that is not finished has left nothing.
        StoreError: if a file cannot be written.
    """
    meanings: dict[str, Meaning] = {"labels": ClassMeaning(source.model.spec.classes)}
    if source.with_confidence:
        meanings["confidence"] = ScaledMeaning()
    outputs: dict[str, Any] = {}
    for name, meaning in meanings.items():
        report = write_cog(
            store.folder / f"{name}.tif",
            _StoppableChunks(store.arrays[name], should_stop),
            source.scene.georef,
            meaning=meaning,
            num_threads=source.setting.workers,
        )
        outputs[report.path.name] = {"bytes": report.file_bytes, "losses": report.losses}
    check_stop(should_stop, "the preview")
    _export_preview(store, source)
    outputs["preview.png"] = {"bytes": (store.folder / "preview.png").stat().st_size}
    return outputs


def _export_preview(store: RunStore, source: Source) -> None:
    scene, spec = source.scene, source.model.spec
    thumbnail = Thumbnail(store.group, (scene.height, scene.width), scene.num_bands, scene.dtype)
    image, valid = thumbnail.read()
    with warnings.catch_warnings():
        # a plain grid of pixels is a legitimate scene
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(store.folder / "labels.tif", driver="GTiff")
    with dataset:
        # an overview answers this, so it costs little however large the mask is
        labels = dataset.read(1, out_shape=thumbnail.size)
    title = f"{Path(scene.uri).name}: {spec.name}"
    path = store.folder / "preview.png"
    write_preview(path, image, labels, ClassMeaning(spec.classes), title=title, valid=valid)


@dataclass(frozen=True, slots=True)
class _StoppableChunks:
    """An array's chunks, until somebody asks to stop."""

    array: RunArray
    should_stop: threading.Event

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene."""
        return self.array.shape

    @property
    def chunk_px(self) -> int:
        """Edge of a chunk."""
        return self.array.chunk_px

    def read_chunk_gzip(self, row: int, col: int) -> bytes | None:
        """A chunk as it stands on disk."""
        check_stop(self.should_stop, f"{self.array.layout.name}.tif was written")
        return self.array.read_chunk_gzip(row, col)
