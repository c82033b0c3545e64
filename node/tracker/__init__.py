"""The tracker: every instance, every job, every state and every change of it, in one database.

`states.py` says what states there are, `tables.py` what is stored. `handle.py` is what the stages hold. Each duty is a
file of plain functions: `arrivals.py` (what was received), `queue.py` (claim, heartbeat, settle, rescue), `matches.py`
(how a match ends), `deliveries.py` and `commitments.py` (what a destination said), `administration.py` (what people do).
All of them move jobs through `transitions.py` alone. `worker.py` is the loop every worker runs, `views.py` what people
read.
"""
