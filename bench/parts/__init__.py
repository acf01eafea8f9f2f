"""The parts of the benchmark. Each can be run alone, writes a results file of its own and says how it did."""
