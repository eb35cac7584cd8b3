import sys, time, os
from qemu.namespace import enter, register, INSIDE
from qemu.device import Device, CACHE
from pypatcher.targets import find_target
ds=[Device(find_target(n)) for n in sys.argv[1:]]
if INSIDE not in os.environ:
    for d in ds:
        t=time.time(); d.prepare(); print("prepare", time.time()-t)
    sys.exit(enter(*sys.argv[1:]))
for d in ds:
    register(d.target, CACHE/"binfmt_misc")
    d.mount()
    t=time.time(); print(d.install(), time.time()-t)
    t=time.time(); print(d.run(d.pypatcher, "--version"), time.time()-t)
    t=time.time(); print(d.run(d.python, "-c", "import os, pypatcher.node.node; print(os.uname(), os.readlink('/proc/self/exe')); from pypatcher.install.preflight import filesystem_type; from pathlib import Path; print(filesystem_type(Path('/device')))"), time.time()-t)
