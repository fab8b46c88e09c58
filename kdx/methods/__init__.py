"""What distillation methods are made of: losses, weights, terms on features, rules of choice, and the
mathematics beside them.
"""
