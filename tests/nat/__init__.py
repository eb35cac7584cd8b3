"""The lab: devices in network namespaces behind routers of every kind. ``make nat-lab`` is ``__main__``."""
