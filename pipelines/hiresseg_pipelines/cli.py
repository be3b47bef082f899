"""The command line: it declares, the flows work.

Exit codes: 0 done, 2 refused or failed with a reason, 130 stopped on request, 1 a bug.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hiresseg_pipelines.evaluate_request import EvaluateRequest
from hiresseg_pipelines.options import takes
from hiresseg_pipelines.request import RunRequest
from hiresseg_pipelines.train_request import TrainRequest

app = typer.Typer(
    name="hiresseg",
    help="Segment images that do not fit in memory: one scene in, one seamless georeferenced mask out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
@takes(RunRequest)
def run(request: RunRequest) -> None:
    """Segment SCENE: labels.tif, preview.png, report.json. Stopped at any time, the same command goes on."""
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
@takes(TrainRequest)
def train(request: TrainRequest) -> None:
    """Train a model on images and their labels. Stopped at any time, the same command goes on."""
    from hiresseg_pipelines.stopping import stop_on_signals

    with stop_on_signals("step") as should_stop:
        # threads that wait for each other by spinning make a step ten times slower where cores are shared;
        # OpenMP reads this when torch is imported
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from hiresseg_pipelines.train import train as train_flow

        typer.echo(train_flow(request, lambda text: typer.echo(text, err=True), should_stop.is_set))


@app.command()
@takes(RunRequest, without=("out", "overwrite"))
def plan(request: RunRequest) -> None:
    """Say what `run` would do: tiles, forwards, bytes, memory, disk and time. Writes nothing."""
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


@app.command()
@takes(EvaluateRequest)
def evaluate(request: EvaluateRequest) -> None:
    """Compare PREDICTION with TRUTH, or a model's answers with labels: IoU, boundaries, panoptic quality."""
    from hiresseg_pipelines.stopping import exit_on_signals

    with exit_on_signals():
        import json

        from rich.console import Console

        from hiresseg_pipelines.evaluate import evaluate as evaluate_flow
        from hiresseg_pipelines.evaluate_tables import print_evaluation

        result = evaluate_flow(request, lambda text: typer.echo(text, err=True))
        if request.json:
            typer.echo(json.dumps(result, indent=1))
        else:
            print_evaluation(result, Console())


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


@app.command()
def push(
    model: Annotated[Path, typer.Argument(help="A model folder.", show_default=False)],
    address: Annotated[
        str, typer.Argument(metavar="hf://OWNER/NAME", help="Where to on the Hub.", show_default=False)
    ],
    *,
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone read a repository that is made.")
    ] = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub; log in first with `hf auth login`."""
    from hiresseg.models.hub import push_model

    typer.echo(push_model(model, address, private=not public))


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


if __name__ == "__main__":
    main()
