"""Errors and exit codes, console, atomic outputs, run.json; imports the standard library only."""
