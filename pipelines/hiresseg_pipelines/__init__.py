"""When and on which machine: the command line, the flows, the schedulers."""
