"""The demonstration: two domains on this host do the main job, by the public commands alone.

``domains`` starts and ends them, ``story`` has the steps, ``compare`` looks at two folders with nothing of the product.
"""
