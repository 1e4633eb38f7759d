"""Measurements, side by side with other programs; see ``bench/README.md``."""
