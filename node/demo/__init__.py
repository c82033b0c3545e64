"""The whole way on a shipped study, to be seen in a minute."""
