"""Writes the generated files: resource definition, values of the chart, references of the docs. Not in the wheel."""
