"""The E step on an accelerator; torch is imported when a device is chosen that needs it."""
