"""The same programs on the vendor module and through Keyway, and their outcomes compared."""
