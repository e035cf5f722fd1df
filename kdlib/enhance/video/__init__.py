"""Videos and the live camera: frames decoded, enhanced without flicker, and encoded, with sound and timestamps.

Frames are enhanced by the Enhancer; nothing here looks inside a network.
"""
