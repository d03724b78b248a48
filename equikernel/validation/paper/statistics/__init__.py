"""Matrices drawn, inverted and iterated, against every formula of the statistics at initialisation."""
