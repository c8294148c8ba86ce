"""Noise schedule and samplers; torch only, the networks come in as callables."""
