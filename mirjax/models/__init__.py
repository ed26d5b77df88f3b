"""Functional Flax modules: front-ends, back-ends, whole networks, and the table of their names (`zoo`)."""
