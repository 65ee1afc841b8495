"""Draw the package's rooms on their floors and the imports between them, as docs/figures/house.svg.

    python scripts/house.py            # read off the import statements, nothing is imported

A room is a folder of `intrinsic_cli/`; the ground is its files. An arrow that follows from others is left out.
"""

import ast
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "intrinsic_cli"
PICTURE = ROOT / "docs" / "figures" / "house.svg"
WIDTH, BOX, FLOOR, EDGE = 760, (128, 40), 84, 16
WORDS = {  # what a room is for, in as many words as fit
    "bounds": "generalization", "cli": "commands", "finetunes": "what a run leaves", "models": "pre-trained",
    "planning": "words to specs", "projections": "P", "reports": "tables, page", "statistics": "d90",
    "study": "many runs", "subspace": "DID, SAID", "tasks": "rows to scores", "training": "one run",
}  # fmt: skip
INK, PAPER, FILL, LINE = "#222", "#fff", "#eef2fb", "#8a94a8"


def rooms():
    """The folders of the package that hold modules."""
    return sorted(path.name for path in PACKAGE.iterdir() if any(path.glob("*.py")))


def ground():
    """The files of the package, beside its two entrances."""
    return sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"})


def imported(path):
    """Every module that a file imports anywhere in it, by its whole name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows():
    """{room or ground file: those that it imports}."""
    found = {name: set() for name in (*rooms(), *ground())}
    for path in PACKAGE.rglob("*.py"):
        source = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if source in found:
            parts = (name.split(".") for name in imported(path) if name.startswith("intrinsic_cli."))
            found[source] |= {part[1] for part in parts if part[1] in found} - {source}
    return found


def floors(down):
    """{room: its floor}, from 1 above the ground. Raises CycleError at a circle of imports."""
    floor = {}
    for name in TopologicalSorter(down).static_order():
        if name in rooms():
            floor[name] = 1 + max((floor.get(below, 0) for below in down[name]), default=0)
    return floor


def plain(down):
    """The arrows between rooms that don't follow from others."""
    inside = {name: down[name] & set(rooms()) for name in rooms()}

    def reach(name):
        return inside[name].union(*map(reach, inside[name]))

    return {
        name: {b for b in inside[name] if not any(b in reach(c) for c in inside[name] - {b})}
        for name in inside
    }


def draw():
    """The <svg>."""
    down = arrows()
    floor = floors(down)
    top = max(floor.values())
    at, parts = {}, []
    for level in range(top, 0, -1):
        row = sorted(name for name in floor if floor[name] == level)
        for i, name in enumerate(row):
            aside = 70 * (-1) ** level if len(row) == 1 else 0  # so that no arrow runs through a box
            at[name] = (
                WIDTH * (2 * i + 1) / (2 * len(row)) + aside,
                EDGE + FLOOR * (top - level) + BOX[1] / 2,
            )
    for name, targets in plain(down).items():
        for target in sorted(targets):
            (x1, y1), (x2, y2) = at[name], at[target]
            parts.append(
                f'<path d="M{x1:g} {y1 + BOX[1] / 2:g} C{x1:g} {y1 + 60:g} {x2:g} {y2 - 60:g} {x2:g} '
                f'{y2 - BOX[1] / 2 - 4:g}" fill="none" stroke="{LINE}" marker-end="url(#tip)"/>'
            )
    for name, (x, y) in at.items():
        parts.append(_box(x - BOX[0] / 2, y - BOX[1] / 2, BOX[0], name, WORDS.get(name, "")))
    height = EDGE + FLOOR * top
    parts.append(_box(EDGE, height, WIDTH - 2 * EDGE, "the ground", ", ".join(ground())))
    height += BOX[1] + EDGE
    tip = (
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="the rooms of intrinsic_cli and their imports" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">{tip}'
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>{"".join(parts)}</svg>\n'
    )


def _box(x, y, width, name, note):
    middle = x + width / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{BOX[1]}" rx="5" fill="{FILL}" stroke="{LINE}"/>'
        f'<text x="{middle:g}" y="{y + 17:g}" text-anchor="middle" font-weight="600">{escape(name)}</text>'
        f'<text x="{middle:g}" y="{y + 32:g}" text-anchor="middle" font-size="11">{escape(note)}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
