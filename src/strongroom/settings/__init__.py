"""Settings, and the machine they are of: its clock and its randomness."""
