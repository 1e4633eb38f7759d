"""Key management: key groups, keys and their states, the keystore, data keys for backups.

Vocabulary: a *key* (KMS key) is named by its *key tag*, lies in a *key group*, and has a *state*; a group
has at most one *active* key. Keys wrap *data keys*, which encrypt what is stored; *envelopes* carry the
wrapped data keys beside the data. *HMK* and *KPK*, the host master key and the key protection key, open the
keystore, and lie in the *key folder*, apart from it.

Invariants:

- Only an active key encrypts; active and inactive keys decrypt. Without a usable key there is an error, never a
  clear backup.
- A KMS key is never used itself, and leaves this package only through a key export, sealed to a pass phrase.
- What is recovered or imported is compared with its tag before it is stored, and never becomes active by itself.
- The keystore file is whole after any crash: as before a change or as after it.

Locks, in this order:

| lock | of | held while |
|---|---|---|
| mutex of :class:`~strongroom.kms.store.KeystoreFile` | threads of a process | the file is read or changed |
| ``flock`` on the lock file beside the keystore | processes of a host | the file is changed |

Argon2id and listeners run outside of both. A reader needs no file lock: the file is replaced, never changed.
"""
