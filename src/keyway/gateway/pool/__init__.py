"""Pools: several backend tokens with the same keys, seen as one. Decisions without bytes, sockets or clocks."""
