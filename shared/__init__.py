"""The language both sides speak: addresses, events, Redis keys, settings, errors. Imports neither side."""
