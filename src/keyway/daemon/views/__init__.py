"""Tokens whose PIN tells which token is meant. Such a token stands where a backend stands (`home`), and gives each context a stream (`stream`).

What answers there (`context`) opens a stream to the token behind (`far`) when a PIN has chosen one, and passes frames on from then on.
"""
