"""What the node tells about itself: logs, without patient data."""
