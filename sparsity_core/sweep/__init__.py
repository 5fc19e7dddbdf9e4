"""One layer at a time: what does its sparsity do to the model?"""
