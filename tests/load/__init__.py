"""The parts of ``tests/load_test.py``: what is sent, how it is judged, what is shown and written."""
