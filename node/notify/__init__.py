"""Messages to people about what needs them: `troubles.py` finds it, `notifier.py` says when to write, `channels.py` sends."""
