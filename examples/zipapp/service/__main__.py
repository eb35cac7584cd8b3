"""A service shipped as a zipapp: its own code in one file, its dependencies installed on the device."""

import logging
import signal
import sys

import pypatcher

OWNER = "qq139pmqgnno7zcw53gddb9krmkaewbzj3z61excu4q16tkyxu6y"  # yours: it is in owner.key.pub


@pypatcher.public_key(OWNER)
def main() -> None:
    version = pypatcher.Version.current(default="0.0.0")  # of the signed file; from its sources it has none
    print(f"version {version}, arguments {sys.argv[1:]}", flush=True)
    pypatcher.start(pypatcher.UpdaterMode.Now)
    signal.pause()  # the service's own work would be here


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pypatcher").setLevel(logging.INFO)  # shows what its node does
    main()
