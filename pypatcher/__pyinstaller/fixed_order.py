"""Is packed if PYTHONHASHSEED was set when PyInstaller ran, so that ``embed`` can tell; nothing imports it."""
