"""Other ways to serve the same model, measured beside Inferlane: ``make benchmark-peers``."""
