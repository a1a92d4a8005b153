"""How process pools behave when something goes wrong: one check for each complaint about them.

``python -m tricorne.testing.conduct --impl NAME`` runs them, each in a process of its own with a hard limit.
"""
