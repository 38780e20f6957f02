"""For those who test guests: result protocols of known test suites, and real Xen to compare with."""
