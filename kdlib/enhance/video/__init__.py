"""Videos and the live camera: decoding, enhancing without flicker, and encoding with sound and timestamps.

The Enhancer enhances the frames; nothing here depends on the kind of network.
"""
