"""The one loop, its settings, the device that it runs on. Importing the package costs no torch."""
