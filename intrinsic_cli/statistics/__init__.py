"""d_t as a statistic: functions of scores, which `runs` takes from results. Nothing here loads torch."""
