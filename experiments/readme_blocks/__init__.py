"""The parts of the README that are made from records, a module each."""
