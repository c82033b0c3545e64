"""Receive: the storage SCP, and the fetching of what was not sent. An instance is acknowledged when its file and its
tracker row are durable, not before. Storage commitment is answered here, because only this stage knows what is kept."""
