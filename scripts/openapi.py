"""Write the API's OpenAPI document to a file, without starting anything: ``make api-docs``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from api import create_app
from common.settings import load_settings
from scripts.programs import ROOT

FILE = ROOT / "docs" / "openapi.json"


def document() -> str:
    """The document as JSON; the same as ``/openapi.json`` of an API with default settings."""
    answer = create_app(load_settings({})).test_client().get("/openapi.json")
    return json.dumps(answer.get_json(), indent=2) + "\n"


def main() -> int:
    """Write it and say where it is."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(document())
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
