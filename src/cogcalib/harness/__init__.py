"""Configured runs and papers: YAML in, run folders, tables and pages out."""
