"""What a type checker accepts and rejects."""
