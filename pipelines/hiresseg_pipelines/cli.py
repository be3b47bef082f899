"""The command line: it declares, the flows work.

Exit codes: 0 done, 2 refused or failed with a reason, 130 stopped on request, 1 a bug.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from hiresseg_pipelines.request import (
    Augmentation,
    Normalize,
    Precision,
    RunRequest,
    parse_bands,
    parse_bytes,
    parse_device,
)

Parsed = TypeVar("Parsed")

app = typer.Typer(
    name="hiresseg",
    help="Segment images that do not fit in memory: one scene in, one seamless georeferenced mask out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SceneArgument = Annotated[str, typer.Argument(help="The image: a GeoTIFF of any size.", show_default=False)]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A bundled model, a folder, a .pt2 or .onnx file, or my_module:build.",
        show_default=False,
    ),
]
BandsOption = Annotated[
    str | None, typer.Option(help="Bands to read, from 1, in the model's order: 4,3,2.", show_default=False)
]
ConfidenceOption = Annotated[bool, typer.Option("--confidence", help="Also write confidence.tif.")]
NormalizeOption = Annotated[
    Normalize,
    typer.Option(help="Mean and deviation of the model, or of this scene (taken once, from an overview)."),
]
AugmentationOption = Annotated[
    Augmentation,
    typer.Option("--tta", help="Average over each tile mirrored (4 forwards), or turned too (8)."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Arithmetic of the network.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="Blocks at the same time, one thread each.", show_default="measured and chosen"
    ),
]
BlockOption = Annotated[
    int | None,
    typer.Option(
        min=16,
        help="About the edge of a block in pixels; decides memory, never the result.",
        show_default=False,
    ),
]
MemoryOption = Annotated[
    str | None, typer.Option(help="Refuse to start if more is needed: 4GiB, 800MiB.", show_default=False)
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Output folder.", show_default="SCENE.hiresseg, beside the scene"),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Start anew where another run stands.")]


@app.command()
def run(  # noqa: PLR0913 - one parameter per thing a user can say
    scene: SceneArgument,
    model: ModelOption,
    out: OutOption = None,
    *,
    bands: BandsOption = None,
    confidence: ConfidenceOption = False,
    normalize: NormalizeOption = "model",
    tta: AugmentationOption = "none",
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    block: BlockOption = None,
    max_memory: MemoryOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Segment SCENE: labels.tif, preview.png, report.json. Stopped at any time, the same command goes on."""
    request = _request(scene, model, bands, device, max_memory)
    request = replace(request, confidence=confidence, normalize=normalize, precision=precision, tta=tta)
    request = replace(request, out=out, workers=workers, block_px=block, overwrite=overwrite)
    from hiresseg_pipelines.stopping import stop_on_signals

    with stop_on_signals() as should_stop:
        # torch is imported only here, where a signal is heard already
        from hiresseg_pipelines.progress import RunProgress
        from hiresseg_pipelines.report import describe_result
        from hiresseg_pipelines.run import run as run_flow

        with RunProgress() as progress:
            report = run_flow(request, progress, should_stop)
        typer.echo(describe_result(report, request.folder))


@app.command()
def plan(  # noqa: PLR0913 - as above
    scene: SceneArgument,
    model: ModelOption,
    *,
    bands: BandsOption = None,
    confidence: ConfidenceOption = False,
    normalize: NormalizeOption = "model",
    tta: AugmentationOption = "none",
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "fp32",
    workers: WorkersOption = None,
    block: BlockOption = None,
    max_memory: MemoryOption = None,
) -> None:
    """Say what `run` would do: tiles, forwards, bytes, memory, disk and time. Writes nothing."""
    request = _request(scene, model, bands, device, max_memory)
    request = replace(request, confidence=confidence, normalize=normalize, precision=precision, tta=tta)
    request = replace(request, workers=workers, block_px=block)
    from hiresseg_pipelines.stopping import exit_on_signals

    with exit_on_signals():
        from hiresseg_pipelines.report import describe_plan
        from hiresseg_pipelines.run import plan as plan_flow

        prepared = plan_flow(request, lambda text: typer.echo(text, err=True))
        typer.echo(describe_plan(prepared))
        prepared.plan.check_memory(request.max_memory)


@app.command()
def models(
    model: Annotated[
        str | None, typer.Argument(help="One model or folder, in full.", show_default=False)
    ] = None,
) -> None:
    """List the bundled models, or say what a model folder says about itself."""
    from hiresseg_pipelines.stopping import exit_on_signals

    with exit_on_signals():
        from hiresseg_pipelines.catalogue import describe_models

        typer.echo(describe_models(model))


@app.command()
def verify(run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that a run wrote.")]) -> None:
    """Prove that a finished run is whole: every pixel written by one block, unharmed, also in its outputs."""
    from hiresseg_pipelines.stopping import exit_on_signals

    with exit_on_signals():
        from hiresseg_pipelines.verify import verify as verify_flow

        typer.echo(verify_flow(run))


@app.command("import-model")
def import_model(
    file: Annotated[
        Path,
        typer.Argument(help="A checkpoint, .pt2 or .onnx file, a config.json beside it.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to make.", show_default=False)],
    *,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Take what fits where not all keys do.")
    ] = False,
) -> None:
    """Make a model folder of FILE. Of a checkpoint nothing but tensors is read."""
    from hiresseg_pipelines.catalogue import describe_import

    typer.echo(describe_import(file, out, allow_missing=allow_missing))


def main() -> None:
    """Run the command; a refusal is one message on stderr and exit code 2."""
    # the library of errors is small; torch is not imported by it
    from hiresseg.errors import HiressegError, Interrupted
    from hiresseg_pipelines.stopping import EXIT_CODE

    try:
        app()
    except Interrupted as error:
        typer.echo(f"hiresseg: {error}", err=True)
        sys.exit(EXIT_CODE)
    except HiressegError as error:
        typer.echo(f"hiresseg: {error}", err=True)
        sys.exit(2)


def _request(scene: str, model: str, bands: str | None, device: str, max_memory: str | None) -> RunRequest:
    return RunRequest(
        scene=scene,
        model=model,
        bands=None if bands is None else _parse("--bands", parse_bands, bands),
        device=_parse("--device", parse_device, device),
        max_memory=None if max_memory is None else _parse("--max-memory", parse_bytes, max_memory),
    )


def _parse(option: str, parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


if __name__ == "__main__":
    main()
