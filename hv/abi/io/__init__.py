"""Protocols between front ends and back ends; one file per header of public/io."""
