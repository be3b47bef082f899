"""How signals end a process, on a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from hiresseg.errors import Interrupted
from hiresseg_pipelines.progress import RunProgress
from hiresseg_pipelines.stopping import exit_on_signals, stop_on_signals
if sys.argv[1] == "plan":
    with exit_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
with stop_on_signals() as should_stop, RunProgress() as progress:
    progress.begin("stage 1 of 1", 10, 0)
    os.kill(os.getpid(), signal.SIGINT)
    assert should_stop.is_set()
    if sys.argv[1] == "twice":
        os.kill(os.getpid(), signal.SIGINT)
# the process is ending, and a signal now must not end it otherwise
os.kill(os.getpid(), signal.SIGINT)
"""


def run_on_terminal(case):
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, case]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as child:
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 4096):
                text += part
        except OSError:
            # Linux says so when the other end has closed
            pass
        os.close(ours)
    return child.returncode, text.decode()


@pytest.mark.parametrize("case", ["plan", "twice", "late"])
def test_however_often_it_is_asked_to_stop_the_exit_code_is_130_and_the_cursor_is_there(case):
    code, text = run_on_terminal(case)
    assert code == 130, text
    assert "Traceback" not in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") or "\x1b[?25l" not in text
    assert ("\x1b[?25l" in text) == (case != "plan")
