"""`diffmsr-node doctor`: every question that an administrator would ask before a fault is seen, each with its answer and,
where something is wrong, what to do.

It asks the preconditions of `node.checks` first, then about this host, the certificates and the peers. On request it runs
the shipped study through the model, and sends a marked test series to each destination.
"""
