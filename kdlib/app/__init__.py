"""The page in ``web/`` and what serves it on this machine."""
