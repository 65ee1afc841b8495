"""Many runs: a sweep, an adaptive search, and the launchers that give runs to processes."""
