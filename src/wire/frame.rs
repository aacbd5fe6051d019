//! A frame: four bytes of big-endian length, then that much JSON. Bounded before anything is allocated.
