"""What models there are, and what they say about themselves."""

from __future__ import annotations

from pathlib import Path

from hiresseg.models import ModelSpec, bundled_models, describe_model


def describe_models(name_or_folder: str | None) -> str:
    """One model in full, or all bundled ones.

    Raises:
        ModelError: if there is no such model.
    """
    names = [name_or_folder] if name_or_folder else list(bundled_models())
    return "\n\n".join(_describe(describe_model(name)) for name in names)


def describe_import(file: Path, folder: Path, *, allow_missing: bool) -> str:
    """Import a model, and say what came of it.

    Raises:
        ModelError, StoreError: as `hiresseg.models.importing.import_model`.
    """
    # torch is imported only here: the list of models does without
    from hiresseg.models.importing import import_model

    imported = import_model(file, folder, allow_missing=allow_missing)
    parts = [imported.misfits.describe(), f"{imported.spec.name}: {folder}"]
    if imported.prefix:
        parts.insert(0, f"left out of the keys: {imported.prefix}")
    parts += [
        f"a .pt2 can run code when it is opened, so run it by its own name: --model {path}"
        for path in folder.glob("*.pt2")
    ]
    return "\n".join(filter(None, parts))


def _describe(spec: ModelSpec) -> str:
    size = (
        "any" if spec.pixel_size_m is None else " to ".join(f"{edge:g}" for edge in spec.pixel_size_m) + " m"
    )
    stages = "; ".join(
        f"level {s.level}, tiles of {s.tile_px} px, overlap {s.overlap_px}" for s in spec.stages
    )
    rows = {
        "bands": f"{', '.join(spec.bands)} ({', '.join(spec.dtypes)})",
        "classes": ", ".join(f"{value} {info.name}" for value, info in enumerate(spec.classes)),
        "pixel size": size,
        "stages": stages,
        "licence": spec.licence,
        "scores": ", ".join(f"{name} {value:g}" for name, value in spec.scores.items()) or "none stated",
        "digest": spec.digest,
    }
    body = "\n".join(f"  {name:<11}{value}" for name, value in rows.items())
    about = f": {spec.description}" if spec.description else ""
    return f"{spec.name}{about}\n{body}"
