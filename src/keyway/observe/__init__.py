"""What the daemon tells about itself. Nothing imports it to decide."""
