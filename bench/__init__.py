"""Measurements on the lab, each a command: lab up -> load -> what came of it -> figures, and 1 when a promise broke."""
