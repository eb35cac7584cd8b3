"""The tests: which folder shows what, and what each helper is for, is in ``README.md``."""
