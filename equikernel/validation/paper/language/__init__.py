"""The experiment ``language``: a DEQ-Transformer as a language model, its weights of three families, after the talk."""
