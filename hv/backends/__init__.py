"""The host side of a domain's devices. A backend sees pages, byte sinks and a way to notify, never addresses."""
