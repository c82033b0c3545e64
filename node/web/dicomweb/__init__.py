"""DICOMweb, read-only: QIDO-RS and WADO-RS (PS3.18 chapter 10) over what is in the archive, received and derived alike.

For people with the role `phi`, and off unless `[web] dicomweb` is set. `routes.py` has the addresses; `search.py` answers
queries, `contents.py` knows what is kept of a study, `frames.py` and `rendered.py` read pixels, `negotiation.py` reads the
Accept header, `multipart.py` and `model.py` write what is sent.
"""
