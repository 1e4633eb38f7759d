"""What becomes of an image after its backup or its arrival: policies, promises, and the plan that keeps them.

A *storage lifecycle policy* (SLP) is a numbered list of operations, each of which makes or sends a copy; an operation
names the earlier one from whose copy it starts. Saving a policy makes a new version; an image stays on the version it
began with.

Invariants:

- What a policy promises of an image becomes rows of ``replications`` in the transaction in which the image is
  acknowledged, one for each target. A row is never taken away, whatever becomes of the policy or the target: it ends
  with the target's receipt.
- As long as a row is not confirmed, the copy that is to be sent does not expire: the catalog holds the promise.
- The plan is a pure function of rows and time. It is made again after every change and at every start; no process has
  to remember anything.
"""
