"""A GitHub in memory: REST, workflow runs, runners and their protocol, faults and limits, all from one seed."""
