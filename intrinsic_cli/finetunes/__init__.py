"""What a run leaves behind: the portable file, the model rebuilt from it, its score, and tasks as points."""
