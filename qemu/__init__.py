"""Devices of other targets on this machine: QEMU user-mode emulation, in namespaces that end with the test.

``python -m qemu`` (``make qemu-test``) makes a device's root filesystem from its sysroot, installs pypatcher in it from
the wheelhouse, runs the unit tests there, and then lets emulated devices update themselves from a native node. Nothing
here knows an architecture; ``targets/*.toml`` does.
"""
