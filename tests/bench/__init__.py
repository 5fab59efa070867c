"""The server beside its peers: same machine, same files, one run. `make bench`; see docs/testing.md."""
