"""The native wire of Keyway (docs/wire.md): values to bytes and back, without I/O."""
