"""What all sides share: addresses, events, Redis keys, settings, errors. Imports no side."""
