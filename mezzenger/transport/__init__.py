"""The sockets: every option that Mezzenger sets on them is in here."""
