"""The whole data flow on a shipped study, in a minute."""
