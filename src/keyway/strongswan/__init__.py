"""strongSwan with keys behind Keyway: its configuration files, what is wrong with a set-up, and loading it into a running charon."""
