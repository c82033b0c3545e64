"""Receive: the storage SCP. An instance is acknowledged when its file and its tracker row are durable, not before."""
