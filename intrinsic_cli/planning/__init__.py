"""From words on a command line to specs of runs. The only room that knows Hydra; nothing here loads torch."""
