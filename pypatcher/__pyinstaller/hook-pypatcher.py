"""What PyInstaller cannot see by itself: target files, and modules that are imported by name at run time.

Read at build time only; nothing of it runs on a device.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("pypatcher")
hiddenimports = [
    name for name in collect_submodules("pypatcher") if ".cli" not in name and ".__pyinstaller" not in name
]
