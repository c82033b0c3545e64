"""What the node tells about itself: logs and traces, without patient data."""
