"""The configuration: one TOML file, environment variables on top of it, unknown keys are errors."""
