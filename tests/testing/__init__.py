"""Tests of what Mezzenger has for the tests of others."""
