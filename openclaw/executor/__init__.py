"""Running commands: the executor process, and the node's link to it."""
