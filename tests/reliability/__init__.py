"""Trainings that are maltreated for as long as one likes."""
