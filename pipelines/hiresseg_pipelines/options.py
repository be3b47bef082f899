"""Commands whose options are the fields of a dataclass: each is declared once, where its meaning stands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

Request = TypeVar("Request")
Parsed = TypeVar("Parsed")


def takes(
    kind: type[Request], *, without: Collection[str] = ()
) -> Callable[[Callable[[Request], None]], Callable[..., None]]:
    """Make a command of a function that takes a `kind`: one parameter per field, as the field is annotated.

    Args:
        kind: a dataclass whose fields are annotated with `typer.Argument` or `typer.Option`.
        without: fields that this command does not offer; they keep their defaults.
    """

    def decorate(work: Callable[[Request], None]) -> Callable[..., None]:
        hints = get_type_hints(kind, include_extras=True)
        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=_as_typed(hints[field.name]),
            )
            for field in fields(kind)  # type: ignore[arg-type]
            if field.name not in without
        ]

        def command(**values: Any) -> None:
            work(kind(**values))

        command.__name__, command.__doc__ = work.__name__, work.__doc__
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def read_by(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """A parser of typer's that shows what `parse` says of a wrong value."""

    def parser(text: str) -> Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    parser.__name__ = "TEXT"
    return parser


def _as_typed(hint: Any) -> Any:
    """The annotation for the command line: what has a parser of its own is typed as text."""
    info = get_args(hint)[1]
    return Annotated[str, info] if info.parser is not None else hint
