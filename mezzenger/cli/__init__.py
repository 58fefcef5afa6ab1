"""The commands ``mezzenger`` and ``mezzenger-server``."""
