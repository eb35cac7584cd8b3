"""A whole emulated device: a real kernel, real systemd and an ext4 disk, under QEMU's system emulation.

``python -m qemu.machine`` (``make device-test``) updates programs under units of ``pypatcher unit``, and cuts the power
in the midst of updates. ``inside/`` holds what runs on the device. Nothing here knows an architecture; QEMU's board
``virt`` and Debian's cloud kernel do, for the targets that they exist for.
"""
