"""Trained networks: a DEQ, its equivalent and a naive network, accuracy against time and memory."""
