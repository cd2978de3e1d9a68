"""Files: atomic writes, locks, HDF5 with a header, tensors and checkpoints with a checksum."""
