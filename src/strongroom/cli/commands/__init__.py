"""One module for each noun of the command line; each holds its click command or group as ``command``.

The module's name is the noun, with ``_`` for ``-``. Nothing is imported from here until the noun is used.
"""
