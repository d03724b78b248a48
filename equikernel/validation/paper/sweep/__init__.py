"""Fully connected DEQs trained from initial weights of several families and sizes.

- ``config``: which networks; ``network``, ``trainer``: one of them, and its training.
- ``initial``: what mean-field theory says of them before training.
- ``sweep``: the experiment, run in several processes if asked to.
- ``statistics``, ``tables``, ``remarks``, ``figures``: what the runs show, under every meaning of "equally large".
"""
