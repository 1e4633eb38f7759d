"""Enterprise backup: deduplicated, encrypted, signed images, replicated between domains that trust each other."""

__version__ = "0.1.0.dev0"
