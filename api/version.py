"""The version of the API."""

VERSION = "0.1.0"
