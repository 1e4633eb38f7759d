"""What is acknowledged survives: power cuts and killed processes, tried out (see docs/explanation/durability.md)."""
