"""Enterprise backup: deduplicated images, encrypted tape, replication between trust domains."""

__version__ = "0.1.0.dev0"
