"""Files: atomic writes, locks, HDF5 with a header, checkpoints with a checksum."""
