"""The expression language of Mixer's rules: attributes, types, syntax, evaluation. Pure.

text -> parse -> Expression -> check (against a Vocabulary) -> compile_expression -> value of a bag of attributes
                                          partial (what is constant) -> a smaller Expression
"""
