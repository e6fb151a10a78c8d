"""Who may do what: identities, roles, and decisions about calls. Pure; time comes in as an argument."""
