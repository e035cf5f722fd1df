"""Scores against ground truth, and fidelity of a student to its teacher."""
