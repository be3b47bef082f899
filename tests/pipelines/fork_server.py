"""Types commands in processes of their own, forked from one that has imported all: starts cost nothing.

Reads one JSON object a line, {"words": [...], "faults": [...]}, and answers with {"code", "out", "err"}.
A fault has "call" (replace or fsync), "path" (a part of it), "nth" (from 1), "when" (before or after), and
"then": "die" (as by kill -9), the number of a signal, or the name of an error of the system, such as ENOSPC.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path


def inject(fault: dict) -> None:
    """Let the nth call that concerns a path end in a fault."""
    name = fault["call"]
    real, calls = getattr(os, name), itertools.count(1)

    def call(*arguments, **options):
        path = str(Path(f"/proc/self/fd/{arguments[0]}").readlink() if name == "fsync" else arguments[1])
        strikes = fault["path"] in path and next(calls) == fault["nth"]
        if strikes and fault["when"] == "before":
            strike(fault["then"])
        result = real(*arguments, **options)
        if strikes and fault["when"] == "after":
            strike(fault["then"])
        return result

    setattr(os, name, call)


def strike(then: str | int) -> None:
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif isinstance(then, int):
        os.kill(os.getpid(), then)
    else:
        raise OSError(getattr(errno, then), os.strerror(getattr(errno, then)))


def run_child(request: dict) -> None:
    from hiresseg_pipelines.cli import main

    for fault in request["faults"]:
        inject(fault)
    sys.argv = ["hiresseg", *request["words"]]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def calibrate_nothing(model, wanted, *_):
    """What is measured must not decide which bytes two runs are compared by."""
    from hiresseg.forward import calibrate

    return calibrate(model, wanted, "nothing")


def serve() -> None:
    import dask.threaded

    # what torch imports when it is first asked for the shapes of a network
    import torch._dynamo

    import hiresseg_pipelines.run

    del dask, torch
    hiresseg_pipelines.run.calibrate = calibrate_nothing
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                run_child(request)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = [os.pread(file.fileno(), 1 << 20, 0).decode() for file in (out, err)]
        print(json.dumps({"code": code, "out": texts[0], "err": texts[1]}), file=answers, flush=True)


if __name__ == "__main__":
    serve()
