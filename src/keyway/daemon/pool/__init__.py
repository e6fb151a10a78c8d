"""Pools of tokens: several real tokens with the same keys behind one slot (docs/architecture.md, "Pools").

A pool stands in the daemon where a backend stands, and gives out streams as one does. At the other end of such a stream is no module but a
`PoolContext`, which answers the native frames of one context by asking the members.
"""
