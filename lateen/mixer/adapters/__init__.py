"""The adapters that come with Lateen, one module each; ``table.py`` knows them by name."""
