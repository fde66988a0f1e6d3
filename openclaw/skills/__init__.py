"""What a node can do: the skills that it has and advertises."""
