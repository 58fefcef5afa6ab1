"""How much Python does for a message, counted and compared with what it was."""
