"""Converters bound to the catalog: a checkpoint that carries other methods already is converted with their parts."""
