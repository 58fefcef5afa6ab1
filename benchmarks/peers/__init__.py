"""The peers: each is a messaging system, used the way its own documentation calls fast."""
