"""Module hosts: processes that hold a vendor's module each."""
