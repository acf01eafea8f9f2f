"""The layout of the page, one file per tab. :mod:`dashboard.callbacks` joins it to the scripts."""
