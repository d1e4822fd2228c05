"""Bathroom taps, drawn: what they are made of, of what metal, in what light.

parts -> solids -> drawing <- finishes <- light
"""
