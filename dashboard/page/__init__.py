"""What the page is made of, one file per part. Parts lay out; :mod:`dashboard.wiring` joins them to the scripts."""
