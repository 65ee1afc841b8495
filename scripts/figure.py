"""One measured figure beside its target."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the benchmark's table. `target` is an upper bound, or None for a figure that is only told."""

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def ok(self) -> bool | None:
        return None if self.target is None else self.value <= self.target
