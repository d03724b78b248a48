"""equikernel.validation, how it meets reality: data, torch networks, experiments, figures, tables, reports."""
