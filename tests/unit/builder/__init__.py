"""Tests of hv.builder."""
