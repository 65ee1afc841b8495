"""One run: its inputs, its loop, and what it leaves in its directory."""
