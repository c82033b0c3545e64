"""Several hosts with one PostgreSQL and one archive: `python -m tests.hosts`, as root. Each host is a network namespace of its own.

`network.py` connects and cuts them off, `database.py` is the server, `host.py` a host, `story.py` what happens to them, and
`throughput.py` how much more is done by more infer workers.
"""
