"""Certificates, the hosts that hold them, and the tokens that admit new ones.

Vocabulary: the *root* of a domain signs two *issuers*, ``hosts`` for the domain's own machines and
``foreign`` for those of trusted domains. A *credential* is a certificate chain with its private key. A
*fingerprint* is the SHA-256 over the DER of a root; a *pin* is a fingerprint that a person received by
another way than the connection it checks.

Invariants, each of which has a test:

- A certificate says who its holder is, never what it may do. Authority comes from the registry row of that
  very certificate; names, subjects and roles inside it are ignored.
- A private key is made by its host. From a certificate request only the public key is taken, after its owner
  has shown that it holds the private one.
- The ``foreign`` issuer cannot make a server of this domain: its own certificate is limited to clients.
- No token leaves this machine before the other end was verified against a pinned root.
- A token is spent in the transaction that issues the certificate: both happen or neither.
"""
