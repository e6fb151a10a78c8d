"""p11-kit's messages to native frames and back, without I/O."""
