"""What PyInstaller cannot see by itself: target files, and modules that are imported by name at run time.

Read at build time only; nothing of it runs on a device.
"""

import os

from PyInstaller.log import getLogger
from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("pypatcher")
hiddenimports = [
    name for name in collect_submodules("pypatcher") if ".cli" not in name and ".__pyinstaller" not in name
]

# PyInstaller packs some modules in the order of a set, which is another one at each start of Python.
if os.environ.get("PYTHONHASHSEED", "random") == "random":
    getLogger("pypatcher").warning(
        "PYTHONHASHSEED is not set: each build differs by some 400 kB from the one before, which devices fetch. Build "
        "with PYTHONHASHSEED=0; docs/small-updates.md says what else makes updates small."
    )
else:
    hiddenimports.append("pypatcher.__pyinstaller.fixed_order")
