"""Keyway, a PKCS #11 gateway."""
