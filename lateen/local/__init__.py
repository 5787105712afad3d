"""One machine: the project's file, the supervisor of processes and the way their traffic is captured."""
