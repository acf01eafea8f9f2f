"""Pictures of the documentation, made from real runs: screenshots of the dashboard, the recording of a crash."""
