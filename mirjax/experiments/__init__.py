"""Experiments: frozen dataclasses that run and leave records; `report` turns records into tables and figures."""
