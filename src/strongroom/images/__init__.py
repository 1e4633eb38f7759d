"""Images in a pool: backup, restore, and reading their entries again.

A media server runs what is here, for one job at a time: it has the pool, and of keys exactly what the primary gave it
for that job. Nothing here speaks to a network; bytes of an image stream go in or come out, keys come through
:class:`~strongroom.images.keys.KeyIssuer` and :class:`~strongroom.images.keys.KeyOpener`.

Order of writing (``docs/reference/formats/pool-folder.md``): key envelope, frames, pages; then the caller commits at
the primary and writes the fragment.
"""
