"""What runs inside a peer's own environment. Each module reads BENCH_* from its environment."""
