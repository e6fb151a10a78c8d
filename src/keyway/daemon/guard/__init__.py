"""What stands between a client's context and a token that the client may not use as it likes."""
