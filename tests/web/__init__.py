"""The page in ``web/`` in headless Chromium."""
