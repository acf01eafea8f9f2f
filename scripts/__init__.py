"""The Makefile's programs: the broker, the supervisor and the checks around them. No other package imports these."""
