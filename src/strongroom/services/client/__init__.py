"""A client on a host of its own: its certificate, and how it came to it.

A client has one record for each domain that it is enrolled in, with the private key, in a folder of its own. It dials
out and listens to nobody.
"""
