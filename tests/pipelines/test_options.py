"""Commands made of a dataclass: names, defaults, parsers, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from hiresseg_pipelines.options import read_by, takes


def _even(text: str) -> int:
    if int(text) % 2:
        raise ValueError(f"give an even number; got {text}")
    return int(text)


@dataclass(frozen=True, slots=True)
class _Asked:
    name: Annotated[str, typer.Argument()]
    count: Annotated[int | None, typer.Option(parser=read_by(_even))] = None
    loud: Annotated[bool, typer.Option("--loud")] = False


@pytest.fixture
def seen():
    return []


@pytest.fixture
def app(seen):
    app = typer.Typer()
    app.command()(takes(_Asked)(seen.append))
    app.command("quiet")(takes(_Asked, without=("loud",))(seen.append))
    return app


def _run(app, *words):
    return CliRunner().invoke(app, words)


def test_every_field_is_an_option_with_its_default(app, seen):
    assert _run(app, "append", "a").exit_code == 0
    assert _run(app, "append", "b", "--count", "4", "--loud").exit_code == 0
    assert seen == [_Asked("a"), _Asked("b", 4, loud=True)]


def test_what_a_parser_says_is_shown(app, seen):
    refused = _run(app, "append", "a", "--count", "3")
    assert refused.exit_code == 2
    assert "give an even number; got 3" in refused.output
    assert not seen


def test_a_field_left_out_is_no_option(app, seen):
    assert _run(app, "quiet", "a", "--loud").exit_code == 2
    assert _run(app, "quiet", "a", "--count", "2").exit_code == 0
    assert seen == [_Asked("a", 2)]
