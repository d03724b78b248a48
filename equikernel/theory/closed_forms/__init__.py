"""Closed forms of Gaussian moments, without an integrator: integration by parts on a class of integrands."""

from equikernel.theory.closed_forms.closing import closed_form_moments, function_of
from equikernel.theory.closed_forms.forms import DERIVED, RAW, ClosedForms
from equikernel.theory.closed_forms.integrals import TAU
from equikernel.theory.closed_forms.kernels import im_erf, re_erf

__all__ = ["DERIVED", "RAW", "TAU", "ClosedForms", "closed_form_moments", "function_of", "im_erf", "re_erf"]
