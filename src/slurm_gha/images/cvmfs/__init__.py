"""Publishing an unpacked image to CVMFS: `publish` and `gc` on the stratum 0, `wait` for the nodes."""
