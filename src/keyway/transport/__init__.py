"""Move bytes, and say who the peer is."""
