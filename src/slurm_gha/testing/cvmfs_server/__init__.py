"""A stand-in for `cvmfs_server`: a stratum 0 in one directory, with the streams and exit codes of the real one."""
