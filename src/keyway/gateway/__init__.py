"""Contexts, sessions and virtual slots: decisions without bytes, sockets or clocks."""
