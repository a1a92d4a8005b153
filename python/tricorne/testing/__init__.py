"""Programs that test process pools from the outside: ours and others.

``python -m tricorne.testing.conduct`` shows how a pool behaves when something goes wrong, ``python -m tricorne.testing.chaos`` kills its
workers while it works.
"""
