"""One party's half of every job: agreed start, agreed end, full audit."""
