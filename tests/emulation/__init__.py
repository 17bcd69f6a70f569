"""A 64-hart RISC-V machine with the SG2042's topology, emulated; see README.md."""
