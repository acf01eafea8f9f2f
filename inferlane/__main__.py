"""``python -m inferlane``."""

import sys

from inferlane.cli import main

sys.exit(main())
