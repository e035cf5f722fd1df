"""Trainings, readers of files and workers that are maltreated for as long as one likes."""
