//! One pinned io_uring executor per core, aligned buffers, and the Drive, Clock and Net traits.
