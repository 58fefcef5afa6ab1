"""Real sessions, a real broker and the real store, on a network, a disk and a clock that a seed controls."""
