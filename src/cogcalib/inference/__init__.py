"""Asking a model: log-probabilities and generations, whatever engine it runs in."""
