"""One file per packaging: whatever is particular to it stands there and nowhere else; adding one is adding a file.

Each module has a ``PACKAGING``. What all of them share is in ``pypatcher.process.packaging``;
``detection`` finds them here.
"""
