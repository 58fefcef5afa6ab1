"""The tests of Mezzenger; the folders mirror those of the package."""
