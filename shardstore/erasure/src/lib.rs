//! Reed-Solomon and hash kernels over slices.
