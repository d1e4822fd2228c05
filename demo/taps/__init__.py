"""Bathroom taps, drawn: what they are made of, of what metal, in what light.

solids -> pipes -> parts -> drawing -> a picture
                finishes -> light  ->
"""
