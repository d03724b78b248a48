"""Certificates for T(q) = q: how many fixed points there are, where, what follows from them, and how to check it."""
