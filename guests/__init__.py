"""The bundled guests: tiny PV64 kernels, one assembler file each, whose header says what it must print."""
