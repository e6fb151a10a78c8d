"""p11-kit's messages to native frames and back, without I/O (docs/p11-kit-wire.md, section 8)."""

from keyway.bridge.back import Back, Step
from keyway.bridge.front import Front
from keyway.bridge.fusion import Fusion

__all__ = ["Back", "Front", "Fusion", "Step"]
