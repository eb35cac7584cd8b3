"""A service shipped as a zipapp: its own code in one file, its dependencies installed on the device."""

import signal
import sys

import pypatcher


@pypatcher.public_key("OWNER_PUBLIC_KEY")
def main() -> None:
    print(f"version {pypatcher.Version.current()}, arguments {sys.argv[1:]}", flush=True)
    pypatcher.start(pypatcher.UpdaterMode.Now)
    signal.pause()  # the service's own work would be here


if __name__ == "__main__":
    main()
