"""The subcommands of `idim`, a module each, in the order in which `--help` lists them.

A module has `SUMMARY` and `EXAMPLES` for its help, `configure(parser)` for its arguments, and
`execute(arguments) -> int`, which calls the library and returns the exit status. Nothing heavy is imported
at the top of one, so that `--help` answers at once.
"""

from intrinsic_cli.registry import Registry

NAMES = (
    "run", "sweep", "trajectory", "summarize", "compare", "report", "status",
    "show", "diff", "forget", "keys", "export", "apply", "eval", "push", "bound", "tasks", "list", "completion",
)  # fmt: skip
COMMANDS = Registry("COMMAND", {name: f"{__name__}.{name}" for name in NAMES})
