"""Provisioning: tokens, key pairs, certificate requests and certificates, over HTTP."""
