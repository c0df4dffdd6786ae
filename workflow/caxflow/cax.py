"""Hosts that stand in the code of cax 5.2: as long as it runs at some sites, they mean something."""

ORIGIN = "xe1t-datamanager"
# Where it takes the checksum from that it compares all others with: kinds and hosts.
MASTERS = (("raw", ORIGIN), ("raw", "tsm-server"), ("processed", "login"), ("processed", "midway-login1"))
BATCH_HOSTS = ("midway-login1", "tegner-login-1")  # that its permissions and batch scripts know
