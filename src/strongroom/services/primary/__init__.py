"""The primary: authority over one domain."""
