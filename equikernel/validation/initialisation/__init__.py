"""Statistics of DEQs at initialisation, reported: rows of numbers, tables, and phase diagrams over sigma."""

from equikernel.validation.initialisation.diagram import PhaseDiagram
from equikernel.validation.initialisation.figures import draw_phase_diagram
from equikernel.validation.initialisation.inputs import input_law
from equikernel.validation.initialisation.kernel import KernelQuestion, kernel_rows
from equikernel.validation.initialisation.rows import InitRow, init_rows, require_answer
from equikernel.validation.initialisation.section import InitSection, init_report_section
from equikernel.validation.initialisation.table import init_table, kernel_table, rows_table

__all__ = [
    "InitRow",
    "InitSection",
    "KernelQuestion",
    "PhaseDiagram",
    "draw_phase_diagram",
    "init_report_section",
    "init_rows",
    "init_table",
    "input_law",
    "kernel_rows",
    "kernel_table",
    "require_answer",
    "rows_table",
]
