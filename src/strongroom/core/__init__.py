"""Vocabulary that every package shares: ids, errors, the clock, secrets. No I/O."""
