"""`hv bench`: what is measured, how, and against what."""
