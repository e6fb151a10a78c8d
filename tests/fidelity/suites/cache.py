"""Where suites are unpacked and built: outside of version control, kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(os.environ.get("KEYWAY_FIDELITY_CACHE", Path(__file__).parents[3] / ".cache" / "suites"))
