"""Answers from rows, each sentence with the row that says so.

    question -> gathering -> choosing -> prompting -> a chat model -> citing
                passages     the best                              sentences with what they rest on
                             of them  -> quoting, where there is no chat model

What a row or a model writes is text and stays text: nothing here makes markup or an address of it.
"""
