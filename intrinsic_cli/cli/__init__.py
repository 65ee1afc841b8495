"""The command line: subcommands, their arguments, shell completion. The only place that turns errors into text."""
