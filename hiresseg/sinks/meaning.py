"""What the values of an output raster stand for."""

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

FILL: Final = 255
"""Value of a pixel without an answer, and of padding beyond the scene."""


@runtime_checkable
class NamedColor(Protocol):
    """A class of the mask, as far as a file needs to know it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def color(self) -> tuple[int, int, int]:
        """Red, green, blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class ClassMeaning:
    """Value `i` is class `i`; 255 is no answer."""

    classes: tuple[NamedColor, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= FILL:
            raise ValueError(f"a mask has 1 to {FILL} classes, got {len(self.classes)}")
        for index, entry in enumerate(self.classes):
            if len(entry.color) != 3 or not all(0 <= part <= 255 for part in entry.color):
                raise ValueError(
                    f"the color of class {index} ({entry.name}) must be three numbers from 0 to 255, "
                    f"got {entry.color}"
                )


@dataclass(frozen=True, slots=True)
class ScaledMeaning:
    """Value `v` stands for `v * scale`; 255 is no answer."""

    scale: float = 1 / 254
    description: str = "confidence"


Meaning = ClassMeaning | ScaledMeaning
