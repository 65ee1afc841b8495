"""d_t as a statistic: pure functions on arrays of scores. Nothing here loads torch."""
