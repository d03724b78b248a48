"""Closed forms of the dual activation E[phi(u) phi(v)] and of E[phi'(u) phi'(v)], without integration."""

from equikernel.theory.dual_forms.form import DualForm, dual_activation

__all__ = ["DualForm", "dual_activation"]
