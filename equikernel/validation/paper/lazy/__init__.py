"""Predictions of the kernel regime: training dynamics, ridge regression, weight decay."""
