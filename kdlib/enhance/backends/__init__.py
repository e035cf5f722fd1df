"""A network on a device: one class for each family and each way to run it, and the choice among them.

A backend turns a photo's array into maps and back into a photo; files, folders and Pillow images stay outside.
"""
