"""The tracker: every instance, every job, every state and every change of it, in one database.

`states.py` says what states there are, `tables.py` what is stored, `queue.py` how jobs move, `views.py` what people
read, `consume.py` the loop every worker runs.
"""
