"""The parts of the benchmark. Each runs alone, writes its results file and compares itself with its targets."""
