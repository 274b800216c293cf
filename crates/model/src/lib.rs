//! A software VT-d machine with caches, faults and DMA engines, for tests and simulation.
