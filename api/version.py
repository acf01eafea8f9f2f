"""The version of Inferlane that the API announces."""

VERSION = "0.1.0"
